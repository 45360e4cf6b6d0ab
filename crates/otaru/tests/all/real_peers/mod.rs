//! Updates with the programs people run in earnest: Mosquitto, NATS, RabbitMQ, nginx, Python's web server, and real firmware.

pub(crate) mod broker;
mod brokers;
mod device;
mod faults;
mod fleet;
mod network;
mod releases;
mod tls;
mod updates;
mod web;
mod wire;
