//! LZMA for small devices.
//!
//! The [`Decoder`] takes raw LZMA streams (no header) in pieces of any size, allocates nothing, and lends what
//! it decodes as slices of its own dictionary, so that no second output buffer is needed. Its memory is a
//! [`Workspace`]: about 20 KiB for the frames of a release, which have `lc = lp = pb = 0` and a dictionary of
//! 16 KiB. Any input is either decoded or refused with an [`LzmaError`]; none makes it panic, read beyond the
//! dictionary, or give out more than was agreed on.
//!
//! ```
//! # use otaru_lzma::{Decoder, LzmaError, Workspace};
//! # fn decode(frame: &[u8], len: u32, mut write: impl FnMut(&[u8])) -> Result<(), LzmaError> {
//! let mut workspace = Workspace::new();
//! let mut decoder = Decoder::new(&mut workspace, len);
//! for mut piece in frame.chunks(1024) {
//!     loop {
//!         let step = decoder.decode(piece)?;
//!         piece = &piece[step.consumed..];
//!         write(step.output);
//!         if piece.is_empty() && step.output.is_empty() {
//!             break;
//!         }
//!     }
//! }
//! decoder.finish()
//! # }
//! # assert_eq!(decode(&[0; 5], 0, |_| ()), Ok(()));
//! ```
//!
//! The format is described in `lzma-specification.txt` and `DOC/lzma.txt` of the LZMA SDK (Igor Pavlov, public
//! domain); section names below refer to the former. The code here was written from the description.
//!
//! [`decoder`] goes from symbol to symbol; [`range`] gets bits out of bytes; [`workspace`] is the memory;
//! `encoder`, behind the feature `encode`, makes streams on a host.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "encode"))]
extern crate std;

mod decoder;
#[cfg(feature = "encode")]
mod encoder;
mod error;
mod properties;
mod range;
mod window;
mod workspace;

pub use decoder::{Decoder, Length, Step};
#[cfg(feature = "encode")]
pub use encoder::{encode, encode_stream};
pub use error::LzmaError;
pub use properties::Properties;
pub use workspace::{RELEASE_DICTIONARY, Workspace};
