#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![forbid(unsafe_code)]

mod channel;
pub mod client;
mod codec;
mod one_login;
mod outgoing;
mod policy;
mod rate;
mod reason;
mod router;
mod settings;
mod shell;
mod signal;
mod version;

pub use channel::{Channel, ChannelHandle};
#[cfg(any(test, feature = "fuzzing"))]
pub use codec::fuzz::fuzz_packets;
pub use one_login::OneLogin;
pub use policy::{Admission, ConnectRequest, Event, Group, Identity, Password, Policy, Refusal};
pub use reason::Reason;
pub use router::Stats;
pub use settings::{Bounds, Quota, Rate, Settings, Strangers};
pub use shell::{Broker, EndOptions};
pub use version::Version;
