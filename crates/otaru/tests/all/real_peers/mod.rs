//! Updates with the programs people run in earnest: Mosquitto, nginx, Python's web server, and real firmware.

mod broker;
mod brokers;
mod device;
mod faults;
mod fleet;
mod network;
mod releases;
mod updates;
mod web;
mod wire;
