//! Rollouts and deployments as rows, and what operators do to them. What follows from it is [`reconcile`](crate::reconcile)'s.

pub mod deployments;
pub mod operate;
pub mod preview;
pub mod rows;
pub mod transaction;
