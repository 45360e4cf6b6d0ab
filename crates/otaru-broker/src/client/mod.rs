//! An MQTT client for programs, for brokers of 5 and of 3.1.1.

mod backoff;
mod connection;
mod error;
mod flight;
mod frame;
mod handshake;
mod message;
mod mqtt;
mod pace;
mod packet;
mod reconnect;
mod secret;
mod subscription;
mod url;
pub mod version;
mod words;

#[cfg(test)]
mod tests;

pub use error::BrokerError;
pub use message::{Incoming, LONGEST_MESSAGE, Message};
pub use mqtt::{Mqtt, Publisher};
pub use secret::Secret;
pub use url::{BrokerUrl, BrokerUrlError, DEFAULT_PORT, Login};
pub use version::{BadMqttVersion, MqttVersion};
