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
mod words;

#[cfg(test)]
mod tests;

pub use error::BrokerError;
pub use message::{Incoming, LONGEST_MESSAGE, Message};
pub use mqtt::{Mqtt, Publisher};
pub use otaru_format::mqtt::{BadMqttVersion, MqttVersion};
pub use secret::Secret;
pub use url::{BrokerUrl, BrokerUrlError, DEFAULT_PORT, Login};
