#![doc = include_str!("../README.md")]
//!
//! | room, from the top floor down | what |
//! | --- | --- |
//! | [`server`] | a whole server, started and stopped |
//! | [`api`], [`dashboard`], [`home_assistant`], [`downloads`] | siblings: programs, people, a house, and devices that fetch files |
//! | `broker_auth` | a fifth: somebody else's broker, which asks who may do what |
//! | [`web`] | what they share of HTTP |
//! | [`reconcile`] | makes the fleet what the database says it shall be |
//! | [`access`], [`devices`], [`releases`], [`rollouts`] | commands and queries per noun, and their rows |
//! | [`app`], [`config`] | what its parts share, and how it is set up |
//! | [`idempotency`], [`readiness`], [`metrics`] | requests that come twice; whether the next write will be done; figures |
//! | [`backup`], [`migrate`] | backups; the move of a fleet into PostgreSQL |
//! | [`mqtt`], [`http`] | the broker, and a client of it; the listener for HTTP |
//! | [`db`], [`artifacts`], [`data_dir`] | the database, files by their content, the folder it keeps everything in |
//! | [`tls`] | certificates, their reload, handshakes |
//! | [`rates`], [`quotas`], [`files`] | how often, how many at the same time, and how many there is room for |
//! | [`problem`], [`page`], [`caller`] | errors that people see, pages of lists, who acts |
//! | [`events`], [`clock`], [`address`], [`similar`], [`secret`], [`text`] | words and small tools |
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as otaru_server;

pub mod access;
pub mod address;
pub mod api;
pub mod app;
pub mod artifacts;
pub mod backup;
mod broker_auth;
pub mod caller;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dashboard;
pub mod data_dir;
pub mod db;
pub mod devices;
pub mod downloads;
pub mod events;
pub mod files;
pub mod home_assistant;
pub mod http;
pub mod idempotency;
pub mod metrics;
pub mod migrate;
pub mod mqtt;
pub mod page;
pub mod problem;
pub mod quotas;
pub mod rates;
pub mod readiness;
pub mod reconcile;
pub mod releases;
pub mod rollouts;
pub mod secret;
pub mod server;
pub mod similar;
pub mod text;
pub mod tls;
mod told;
pub mod web;
