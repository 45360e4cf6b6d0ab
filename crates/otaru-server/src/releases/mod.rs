//! Releases: firmware that devices can be given.
//!
//! A release is an image, known by its SHA-256. It comes as the image itself (`.bin`) or in a release file (`.otaru`); with a signing
//! key, the server makes the one of the other, with patches from the images that its devices run.
//!
//! | step | file |
//! | --- | --- |
//! | what people do with them | `commands` |
//! | what is in it | [`contents`] |
//! | how it is called, and told from others | [`naming`] |
//! | into store and database | [`accept`], [`register`] |
//! | what to say of it, and who is known to refuse it | [`remarks`], [`unfit`] |
//! | devices are called as their release is | `renaming` |
//! | work in the background | [`job`], [`jobs`] |
//! | release files are made | `build` |
//! | an older release becomes a newer one | [`again`] |
//! | files that nothing refers to go | `prune` |
//! | what is shown, and where devices are sent | [`rows`] |
//! | who signs, and who is trusted | [`Keys`] |

pub mod accept;
pub mod again;
mod build;
mod columns;
pub(crate) mod commands;
pub mod contents;
pub mod job;
pub mod jobs;
mod keys;
mod limits;
pub mod naming;
pub mod needs;
mod prune;
pub mod register;
pub mod remarks;
mod renaming;
pub mod rows;
#[cfg(test)]
pub(crate) mod samples;
pub mod unfit;

pub use job::Job;
pub use keys::{Keys, Makes};
pub use limits::UploadLimits;
pub use rows::{Filter, file_for, url_for};

#[cfg(test)]
mod tests;
