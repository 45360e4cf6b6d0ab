//! TLS for the update agent on a chip: [`otaru_device::Tls`] by Mbed TLS.
//!
//! [`MbedTls`] verifies a server's chain and its name, always. A [`WallClock`] says how late it is at the least: what has expired by
//! then is
//! refused always, what is not valid yet once the time is known. [`Trust`] has the CAs, and the device's own certificate. Needs a heap
//! with C's names (`calloc`, `free`), and what else of C's library Mbed TLS calls; esp-alloc and the chips' ROM have them.
//!
//! Features choose what Mbed TLS is compiled with: `own-server`, `any-server`, or `prebuilt`; see `Cargo.toml`.
#![no_std]

extern crate alloc;

mod clock;
#[cfg(feature = "dated")]
mod hook;
mod reason;
mod records;
mod session;
mod tls;
mod trust;

pub use clock::{CHECKS_DATES, WallClock};
pub use records::LARGEST_RECORD;
pub use session::Session;
pub use tls::{MbedTls, SetupError};
pub use trust::{Identity, MOST_CAS, Trust, TrustError, check};
