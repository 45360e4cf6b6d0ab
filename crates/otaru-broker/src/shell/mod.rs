//! The broker around the [router](crate::router): sockets, tasks, deadlines.

mod broker;
mod connection;
mod dismissal;
mod door;
mod listener;
mod login;
mod proxy;
mod shared;
mod timekeeper;
mod wire;

pub use broker::{Broker, EndOptions};
