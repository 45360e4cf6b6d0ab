//! A virtual ESP32 that runs the very agent that runs on the chip.
//!
//! [`flash`] is NOR flash with real timings, wear and torn writes; [`bootloader`] chooses a slot as ESP-IDF's
//! second stage does; [`net`] is the host's network behind a Wi-Fi that can be cut; [`device`] puts them around
//! the agent.
#![forbid(unsafe_code)]

pub mod bootloader;
pub mod clock;
pub mod device;
pub mod firmware;
pub mod flash;
#[cfg(feature = "lab")]
pub mod lab;
pub mod lan;
pub mod net;
