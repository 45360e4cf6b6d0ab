//! The server's API as a client has it: what `otaru devices`, `release` and `rollout` talk to.
//!
//! [`http`] sends and reads, [`stream`] hears what changes, [`error`] says what a server refuses. What several commands read of an answer
//! is read in [`releases`], [`secrets`] and [`search`].

pub(crate) mod args;
pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod releases;
pub(crate) mod search;
pub(crate) mod secrets;
pub(crate) mod stream;
