//! Files in a bucket of S3, or of a service that speaks as it does, and copies of them near at hand.
//!
//! | what | file |
//! | --- | --- |
//! | where the bucket is, and with which credentials | `config` |
//! | the bucket, and the copies near at hand | `mirror` |
//! | how much is read from it | `limits` |
//! | which copies there are, and which one goes first | `index` |
//! | requests to the bucket | `bucket` |
//! | HTTP below them, with its bounds | `http` |
//! | what is wrong, in words and without secrets | `failure` |
//!
//! All reading is from a copy on disk that was held against its digest when it came: devices fetch by many small ranges, which would each be a
//! request to the bucket, and bytes of a part cannot be told to be wrong.

mod bucket;
mod config;
mod failure;
mod http;
mod index;
mod limits;
mod mirror;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

pub use config::{Credentials, DEFAULT_COPIES, Patience, S3Config, S3Place};
pub use failure::BucketError;
pub use limits::LEAST_COPIES;
pub(super) use mirror::Mirror;
