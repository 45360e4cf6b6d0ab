//! The fleet server as its users run it: the program, virtual devices, and everything that may go wrong.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alike;
mod backup;
mod behind_proxies;
mod chaos;
#[expect(dead_code, reason = "the tests of the command line use more of it")]
#[path = "../cli/common.rs"]
mod common;
mod first_token;
mod fleet;
mod home_assistant;
mod late_broker;
mod logins;
mod memory;
#[expect(dead_code, reason = "the tests with other programs use more of it")]
#[path = "../real_peers/program.rs"]
mod program;
mod proxies;
mod story;
mod words;
