//! The server's side of MQTT: an embedded broker, who may do what there, and a client of whatever broker it is.

pub mod access;
mod broker;
mod client;
mod connections;
mod url;

pub use broker::{EmbeddedBroker, reachable};
pub use client::{BrokerError, Incoming, LONGEST_MESSAGE, Message, Mqtt, Publisher};
pub use connections::Connections;
pub use url::{BrokerUrl, BrokerUrlError, DEFAULT_PORT, Login, Secret};
