//! Deltas between two images of the ESP32 family.
//!
//! Between two releases most of what differs is not new code: it is addresses that moved because something before
//! them grew. So a patch says first how the old image's parts lie in the new one. From that both sides predict the
//! addresses inside what is copied, and the patch carries only what the prediction got wrong. The format is in
//! `docs/delta.md`.
//!
//! [`apply`] makes the new image from the old one and a patch. It allocates nothing: its memory is a [`Workspace`]
//! of less than 48 KiB, and what it reads and writes goes through a [`Host`]. Any patch and any old image lead to an
//! end or to a [`DeltaError`]; never more is written than the header says, and the work is bounded by the lengths
//! of patch and new image.
//!
//! `encode`, behind the feature of that name, makes patches on a PC; `apply_to_slice`, behind `std`, applies them
//! there.
#![no_std]
#![forbid(unsafe_code)]
#![expect(async_fn_in_trait, reason = "a decoder runs in one task; nothing is sent between threads")]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod anchors;
mod chips;
mod decoder;
#[cfg(feature = "encode")]
mod encode;
mod error;
mod header;
mod host;
mod images;
mod input;
mod learned;
mod predict;
mod segments;
#[cfg(feature = "std")]
mod slices;
mod workspace;

pub use decoder::apply;
#[cfg(feature = "encode")]
pub use encode::{Contents, Costs, EncodeError, Encoded, analyze, encode, encode_with};
pub use error::{DeltaError, HeaderError, PatchError};
pub use header::{Header, VERSION};
pub use host::Host;
#[cfg(feature = "std")]
pub use slices::{ApplyError, apply_to_slice};
pub use workspace::{Lzma, Workspace};
