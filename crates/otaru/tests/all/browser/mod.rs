//! The dashboard in a browser: what people do with it, and how it looks.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chromium;
#[expect(dead_code, reason = "the tests of the command line use more of it")]
#[path = "../cli/common.rs"]
mod common;
mod desk;
#[expect(dead_code, reason = "the tests of the server use more of it")]
#[path = "../server/fleet.rs"]
mod fleet;
mod pages;
mod plain;
#[expect(dead_code, reason = "the tests with other programs use more of it")]
#[path = "../real_peers/program.rs"]
mod program;
mod proxied;
#[expect(dead_code, reason = "the tests of the server use more of it")]
#[path = "../server/proxies.rs"]
mod proxies;
mod story;
