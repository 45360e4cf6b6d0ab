//! Makes patches, on a host.
//!
//! [`matcher`] finds what the images have in common, [`plan`] makes anchors and copies of it, [`stream`] the bytes that
//! are compressed, [`encoder`] tries several ways. Matching is done twice: once with the old image as it is, and, when it is
//! known how its parts moved, once with its addresses as they should be then.

mod contents;
mod encoder;
mod layout;
mod matcher;
mod plan;
mod stream;

pub use contents::{Contents, Costs, Encoded};
pub use encoder::{EncodeError, analyze, encode, encode_with};
