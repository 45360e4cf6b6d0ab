#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![forbid(unsafe_code)]

mod access;
mod answer;
mod broker;
mod device_query;
mod devices;
mod events;
mod name;
mod open;
mod page;
mod problem;
mod queries;
mod releases;
mod rollouts;
mod servers;
mod spec;
pub mod timestamp;

pub use access::{
    AuditEntry, CreatedFleetKey, CreatedToken, FleetKey, Me, NewFleetKey, NewToken, Role, Token,
};
pub use answer::Answer;
pub use broker::{BrokerAnswer, BrokerCertificate, BrokerDecision, BrokerLogin, BrokerTopic};
pub use device_query::DeviceQuery;
pub use devices::{
    AddedDevice, ChangeDevice, ChangedDevices, Claim, Contested, DeploymentInShort, Device,
    DeviceCertificate, DeviceDetails, DeviceEvent, DeviceLogin, DeviceStep, EndingCa, EventDetail, Failure,
    Fleet, FleetCounts, NewDevice, Orders, TagMany, TrustedCa, VersionCount,
};
pub use events::Event;
pub use name::{Name, Named};
pub use open::Open;
pub use page::{Cursor, Page};
pub use problem::Problem;
pub use queries::{
    AbortQuery, AuditQuery, BuildQuery, DeploymentQuery, EventQuery, PreviewQuery, ReleaseQuery,
    RolloutQuery, UploadQuery,
};
pub use releases::{ChangeRelease, Delta, Job, JobKind, JobState, Needs, Release, Uploaded};
pub use rollouts::{
    Deployment, KnownRefusal, NewAttempts, NewRollout, Preview, ReleaseInShort, RetryDeployment, Rollout,
    RolloutEvent, WaveTally, WidenRollout,
};
pub use servers::{ServerMember, Servers};
pub use spec::{Gate, Spec};
pub use timestamp::{Timestamp, TimestampError};
