//! The Otaru update agent on `esp-hal`: what [`otaru_device`] asks of a board, for the ESP32 family.
//!
//! [`EspBoard`] is reset, watchdog and last words; [`EspFlash`] the flash chip; [`EspClock`] time; [`Net`]
//! sockets on `embassy-net`. With the feature `panic-handler` the message of a panic reaches the next boot.
//! Wi-Fi is not here: every firmware joins in its own way.
#![no_std]

mod board;
mod clock;
mod flash;
mod mmu;
mod net;
#[cfg(feature = "panic-handler")]
mod panic;
mod words;

pub use board::EspBoard;
pub use clock::EspClock;
pub use flash::EspFlash;
pub use net::{Net, Sockets};
