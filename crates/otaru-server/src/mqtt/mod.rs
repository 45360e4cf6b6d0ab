//! The server's side of MQTT: an embedded broker, and who may do what there. The client of whatever broker it is: `otaru-broker`.

pub mod access;
mod bounds;
mod broker;
mod connections;

pub use bounds::settings;
pub use broker::{EmbeddedBroker, Entrance, reachable};
pub use connections::Connections;
pub(crate) use connections::EndConnections;
