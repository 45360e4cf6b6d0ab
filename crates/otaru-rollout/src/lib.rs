//! Who gets which firmware when. No I/O, no clock: state, event and time go in; state and effects come out, the same for
//! the same.
//!
//! A server keeps three kinds of rows, and a step reads one of each, however large the fleet is:
//!
//! | row | what |
//! | --- | --- |
//! | [`Rollout`] | what was asked for, the phase, and how many deployments stand where |
//! | [`Deployment`] | one device's way in one rollout |
//! | [`Occupancy`] | which of a device's deployments is active |
//!
//! and calls
//!
//! | when | what |
//! | --- | --- |
//! | an operator does something; time passes; a scan is done | [`Rollout::step`] |
//! | [`Effect::Scan`]; a device appears or changes | [`admit()`] |
//! | a device reports, comes or goes; its time is over | [`Case::step`] |
//! | any of these happened | [`Rollout::budget`], [`Rollout::select`], then [`Case::start`] |
//!
//! What they return is kept in an outbox together with the rows, and carried out after. `docs/rollouts.md` has the concepts,
//! the tables of states, and the grammar of tag expressions.
#![forbid(unsafe_code)]

mod admit;
mod case;
mod control;
mod deployment;
mod effect;
mod gate;
mod ids;
mod percent;
mod rate;
mod report;
mod rollout;
mod spec;
mod start;
mod tags;
mod tally;
mod target;
mod text;
mod time;
mod version;
mod window;

pub use admit::{NotAdmitted, Overlap, admit};
pub use case::Case;
pub use control::{Control, ControlError};
pub use deployment::{Deployment, Event, Outcome, Stage};
pub use effect::{Effect, Notice};
pub use ids::{DeviceId, OfferId, RolloutId};
pub use percent::{BadPercent, Percent, Position};
pub use report::{Report, is_worth_retrying};
pub use rollout::{GateState, Held, Phase, Rollout};
pub use spec::{
    Attempts, AutoGate, Gate, Goal, Limits, MAX_ATTEMPTS, MAX_SALT, MAX_WAVES, RolloutSpec, SpecError,
    StopRule, Wave, WaveSize,
};
pub use start::{NotNow, Occupancy};
pub use tags::{TagExpression, Tags};
pub use tally::{Standing, Tally, Verdicts};
pub use target::{Device, MAX_LIST, Target};
pub use text::TextError;
pub use time::{Span, Time};
pub use version::VersionRange;
pub use window::{BadWindow, Window};
