#![doc = include_str!("../README.md")]
//!
//! The way of an update is a straight line; follow it in `agent/`: boot → trial → command → fetch → write → verify → activate →
//! restart.
#![cfg_attr(feature = "document-features", doc = "\n## Features\n")]
#![cfg_attr(feature = "document-features", doc = document_features::document_features!())]
#![no_std]
#![forbid(unsafe_code)]
#![expect(async_fn_in_trait, reason = "the agent is one task; nothing is sent between threads")]

#[cfg(test)]
extern crate std;

mod agent;
mod backoff;
mod board;
mod config;
mod dial;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod guards;
mod history;
mod http;
mod job;
mod link;
mod memory;
mod mqtt;
mod platform;
mod proof;
mod report;
mod request;
mod session;
pub mod slots;
mod talk;
pub mod text;
mod timeout;
mod tls;
mod trust;
mod uplink;

pub use agent::boot::{Boot, begin};
pub use agent::{Agent, Workspace};
pub use backoff::Backoff;
pub use board::{AlwaysHealthy, Board, Clock, Health, Link, LinkError, ResetReason, Unhealthy};
pub use config::{Config, ConfigError, Credentials};
pub use http::HttpConfig;
pub use otaru_format as format;
pub use otaru_format::mqtt::MqttVersion;
pub use otaru_format::url::AllowedHost;
pub use platform::{Parts, Platform};
pub use tls::{NoStream, NoTls, Tls, TlsError};
pub use trust::{BadKey, PublicKey};
