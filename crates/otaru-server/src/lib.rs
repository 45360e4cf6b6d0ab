//! The fleet server: one process with an HTTP API, downloads, an embedded MQTT broker, and a database that says which
//! firmware each device should run.
//!
//! | room | what |
//! | --- | --- |
//! | [`server`] | a whole server, started and stopped |
//! | [`config`], [`app`] | how it is set up, and what its parts share |
//! | [`data_dir`], [`db`] | the folder it keeps everything in, and the database |
//! | [`mqtt`] | the broker, who may do what there, and a client of it |
//! | [`files`], [`counts`] | how many connections there is room for, and how many of anything at the same time |
//! | [`http`], [`api`] | HTTP for people and programs |
//! | [`readiness`] | whether the next write will be done |
//! | [`access`] | who is who, and who did what |
//! | [`devices`] | the registry |
//! | [`reconcile`] | makes the fleet what the database says it shall be |
//! | [`artifacts`], [`downloads`] | files by their content, and their way out |
//! | [`releases`] | firmware that devices can be given: uploads, release files, patches |
//! | [`rollouts`] | rollouts and deployments as rows, and what operators do to them |
//! | [`similar`] | what a misspelt name may have meant |
//! | [`clock`], [`timestamp`] | what time it is, and moments as text |
//! | [`events`], [`metrics`] | what just changed, and how much of it |
#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod api;
pub mod app;
pub mod artifacts;
pub mod backup;
pub mod caller;
pub mod clock;
pub mod config;
pub mod counts;
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
pub mod mqtt;
pub mod page;
pub mod problem;
pub mod rates;
pub mod readiness;
pub mod reconcile;
pub mod releases;
pub mod rollouts;
pub mod server;
pub mod similar;
pub mod timestamp;
pub mod web;
