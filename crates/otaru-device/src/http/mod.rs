//! Fetching firmware over HTTP/1.1, with resumption, bounds and timeouts.
//!
//! `RemoteFile` is one file, read over as many attempts as it takes.

mod arriving;
mod body;
mod config;
mod date;
mod error;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod head;
mod remote;
mod request;
#[cfg(test)]
mod tests;
mod url;

pub use config::HttpConfig;
pub(crate) use error::FetchError;
pub(crate) use remote::{BUFFER, Need, RemoteFile, RetryPolicy};
