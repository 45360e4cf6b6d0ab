//! The server's side of MQTT: an embedded broker, who may do what there, and a client of whatever broker it is.

mod broker;
mod client;
mod url;

pub use broker::{EmbeddedBroker, reachable};
pub use client::{BrokerError, Incoming, Message, Mqtt};
pub use url::{BrokerUrl, BrokerUrlError, DEFAULT_PORT, Login, Secret};
