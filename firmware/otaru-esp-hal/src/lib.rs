#![doc = include_str!("../README.md")]
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
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
#[cfg(feature = "tls")]
mod random;
mod start;
mod words;

pub use board::EspBoard;
pub use clock::EspClock;
pub use flash::{EspFlash, EspFlashError};
pub use net::{Connection, FRAMES, Net, Sockets, StackLink};
pub use platform::EspPlatform;
#[cfg(feature = "tls")]
pub use random::RadioRng;
pub use start::run;
