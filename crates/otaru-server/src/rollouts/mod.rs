//! Rollouts and deployments as rows, and what operators do to them. What follows from it is [`reconcile`](crate::reconcile)'s.

pub(crate) mod commands;
pub mod deployments;
pub mod device;
pub(crate) mod new;
pub(crate) mod offer;
pub mod operate;
pub mod preview;
pub mod rows;
pub mod transaction;
pub(crate) mod unreadable;
pub mod view;
