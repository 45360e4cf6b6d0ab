//! The HTTP API under `/api/v1`.

pub mod caller;
pub mod problem;
pub mod releases;
