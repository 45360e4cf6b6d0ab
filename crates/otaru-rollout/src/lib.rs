#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
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
pub use tags::{RequiredTag, Tag, TagExpression, Tags};
pub use take_back::MAX_RETURNS;
pub use tally::{Standing, Tally, Verdicts};
pub use target::{Device, MAX_LIST, Target};
pub use text::{PointedError, TextError};
pub use time::{BadSpan, Span, Time};
pub use version::VersionRange;
pub use window::{BadWindow, Window};
