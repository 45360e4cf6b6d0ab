//! The HTTP API of a whole server: who may do what, what is answered, and what hostile requests come to.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod again;
mod alike;
mod audited;
mod authority;
mod bench;
mod broker_auth;
mod bucket;
mod cas;
mod crowds;
mod dashboard;
mod described;
mod description;
mod devices;
mod endings;
mod first_token;
mod grasping;
mod health;
mod hostile;
mod moments;
mod over_postgres;
mod over_tls;
mod over_tls_devices;
mod proxied;
mod registry;
mod reports;
mod requests;
mod start_and_stop;
mod stream;
mod takeovers;
mod wire;
