//! The reconciler over a real database, with devices that are played: every rule by a story, and random histories.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damage;
mod home_assistant;
mod lab;
mod plans;
mod random;
mod stories;
mod sweep;
