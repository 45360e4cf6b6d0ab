//! The Otaru update agent on `esp-hal`: what [`otaru_device`] asks of a board, for the ESP32 family.
//!
//! [`main!`] starts the firmware; [`EspBoard`] is reset, watchdog and crash message; [`EspFlash`] the flash chip; [`EspClock`] time; [`Net`]
//! sockets on `embassy-net`; [`EspPlatform`] puts them together for the agent. [`memory`] tells how much stack and heap were left. With
//! the feature `panic-handler` the message of a panic reaches the next boot.
//! Joining the Wi-Fi is not here, every firmware does that in its own way; [`StackLink`] tells the agent that it did.
#![no_std]
// The one instruction in `start.rs`; Espressif's compiler takes it, as it does for esp-hal.
#![cfg_attr(target_arch = "xtensa", feature(asm_experimental_arch))]

mod board;
mod clock;
mod flash;
pub mod memory;
mod mmu;
mod net;
#[cfg(feature = "panic-handler")]
mod panic;
mod platform;
mod start;
mod words;

pub use board::EspBoard;
pub use clock::EspClock;
pub use flash::{EspFlash, EspFlashError};
pub use net::{Connection, FRAMES, Net, Sockets, StackLink};
pub use platform::EspPlatform;
pub use start::run;
