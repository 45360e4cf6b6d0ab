//! One rule a test, told as a short story about a fleet whose devices do what the test says.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attempts;
mod limits;
mod returns;
mod several;
mod story;
mod trials;
mod waves;
