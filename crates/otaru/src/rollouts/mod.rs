//! Rollouts as the command line shows them, makes them and follows them; several commands do.

pub(crate) mod counts;
pub(crate) mod follow;
pub(crate) mod make;
pub(crate) mod screen;
pub(crate) mod wait;
