//! The two app slots and otadata, as one object.
//!
//! `layout.rs` finds them, `otadata.rs` changes what boots, [`SlotWriter`] fills a slot, [`verify()`] checks one as the bootloader
//! will.

mod error;
mod layout;
mod otadata;
mod region;
mod verify;
mod writer;

pub use error::SlotError;
pub use layout::{Slot, Slots};
pub use otadata::{FailedTrial, Trial, TrialCause};
pub use region::Region;
pub use verify::{READ_BACK, VerifyError, verify};
pub use writer::SlotWriter;
