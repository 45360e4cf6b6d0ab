//! The release file (`.otaru`): a signed manifest, then the payloads it vouches for.
//!
//! ```text
//! magic [8] | envelope length, u32 little-endian | envelope | payload area
//! ```
//!
//! The envelope is a COSE_Sign1 ([`Envelope`]) around a [`Manifest`]; both are CBOR in deterministic encoding, so
//! that one release has one encoding and every bit of it is either checked or signed. Reading copies nothing and
//! takes any bytes. Signatures are made and checked elsewhere; [`Envelope::signed_bytes`] gives what is signed.
//! `docs/release-file.md` has the layout for people and for other implementations.

mod blocks;
mod cbor;
mod cose;
mod error;
mod frame;
mod header;
mod key_id;
mod limits;
mod manifest;
mod payload;
mod semver;
mod writer;

pub use blocks::{Block, Blocks, MAX_BLOCKS, MIN_BLOCK, block_size};
pub use cose::{Envelope, SIGNATURE_LEN, ToSign, emit_unsigned};
pub use error::ReleaseError;
pub use frame::Frame;
pub use header::{HEADER_LEN, MAGIC, MAX_ENVELOPE, envelope_len, header};
pub use key_id::{BadKeyId, KeyId};
pub use limits::{LZMA_DICTIONARY, MAX_ALSO, MAX_PAYLOADS, MAX_REVOKED, MAX_SEQUENCE, MAX_TEXT};
pub use manifest::{Manifest, is_good_text};
pub use payload::{Payload, PayloadKind};
pub use semver::{BadVersion, SemVer};
pub use writer::{ManifestFields, PayloadFields, with_sequence};
