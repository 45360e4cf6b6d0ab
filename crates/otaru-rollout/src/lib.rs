//! Decides who gets which firmware when. No I/O, no clock: state, event and time go in; state and effects come out, the same for
//! the same.
//!
//! A server keeps three kinds of rows, and a step reads one of each, however large the fleet is:
//!
//! | row | what |
//! | --- | --- |
//! | [`Rollout`] | what was asked for, the phase, and how many deployments stand where |
//! | [`Deployment`] | one device's way in one rollout |
//! | [`Occupancy`] | which of a device's deployments is active, and which brought it to what it runs |
//!
//! and calls
//!
//! | when | what |
//! | --- | --- |
//! | an operator does something; time passes; a scan is done | [`Rollout::step`] |
//! | [`Effect::Scan`]; a device appears or changes | [`admit()`] |
//! | a device reports, comes or goes; its time is over | [`DeploymentStep::step`] |
//! | a device runs something else than it did, and its deployment is over | [`DeploymentStep::take_back`] |
//! | any of these happened | [`Rollout::budget`], [`Rollout::select`], then [`DeploymentStep::start`] |
//!
//! ```
//! use otaru_format::digest::Digest;
//! use otaru_rollout::{DeploymentStep, Control, Device, DeviceId, Effect, Occupancy, Rollout, RolloutId, Tags, Time, admit};
//!
//! let now = Time(1_795_000_000_000);
//! let spec = format!(r#"{{"goal": {{"image": "{}"}}, "target": {{"tags": "site=berlin"}}}}"#, Digest::of(b"new"));
//! let mut rollout = Rollout::new(RolloutId(17), serde_json::from_str(&spec)?, now)?;
//! assert!(rollout.step(Control::Start, now)?.contains(&Effect::Scan { scan: 1 }));
//!
//! let (id, tags) = (DeviceId::from("kitchen"), Tags::from([("site".to_owned(), "berlin".to_owned())]));
//! let (chip, product, version, image) = ("esp32c3", "lamp", "1.1.0", Digest::of(b"old"));
//! let device = Device { id: &id, tags: &tags, chip, product, version, image, reachable: true, brought_by: None };
//! let (mut deployment, _) = admit(&mut rollout, &device, &[], None)?;
//! rollout.step(Control::Scanned(1), now)?;
//!
//! let mut occupancy = Occupancy::default();
//! assert_eq!(rollout.select([(&deployment, occupancy)], now), [&id]);
//! let mut step = DeploymentStep { rollout: &mut rollout, deployment: &mut deployment, occupancy: &mut occupancy };
//! let effects = step.start(now)?;
//! assert!(matches!(&effects[..], [Effect::Offer { offer, .. }] if offer.to_string() == "r17.1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What they return is kept in an outbox together with the rows, and carried out after. `docs/rollouts.md` has the concepts,
//! the tables of states, and the grammar of tag expressions.
#![forbid(unsafe_code)]

mod admit;
mod control;
mod deployment;
mod effect;
mod gate;
mod held;
mod ids;
mod occupancy;
mod percent;
mod rate;
mod report;
mod rollout;
mod spec;
mod stage;
mod start;
mod step;
mod tags;
mod take_back;
mod tally;
mod target;
mod text;
mod time;
mod version;
mod window;

pub use admit::{NotAdmitted, Overlap, admit};
pub use control::{Control, ControlError};
pub use deployment::{Deployment, Event};
pub use effect::{Effect, Notice};
pub use held::Held;
pub use ids::{DeviceId, OfferId, RolloutId};
pub use occupancy::Occupancy;
pub use percent::{BadPercent, Percent, Position};
pub use report::{Report, is_worth_retrying};
pub use rollout::{GateState, Phase, Rollout};
pub use spec::{
    Attempts, AutoGate, Gate, Goal, Limits, MAX_ATTEMPTS, MAX_SALT, MAX_WAVES, RolloutSpec, SpecError,
    StopRule, Wave, WaveSize,
};
pub use stage::{Outcome, Stage};
pub use start::NotNow;
pub use step::DeploymentStep;
pub use tags::{Tag, TagExpression, Tags};
pub use take_back::MAX_RETURNS;
pub use tally::{Standing, Tally, Verdicts};
pub use target::{Device, MAX_LIST, Target};
pub use text::{PointedError, TextError};
pub use time::{BadSpan, Span, Time};
pub use version::VersionRange;
pub use window::{BadWindow, Window};
