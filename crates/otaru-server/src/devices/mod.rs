//! The registry: every device that is known, what people call it and how it is tagged, and what happened to it.

pub mod attempts;
pub mod bounds;
pub(crate) mod commands;
mod conditions;
pub mod counted;
pub(crate) mod details;
pub mod edit;
pub mod event;
pub mod filter;
pub(crate) mod health;
pub mod history;
pub mod list;
pub(crate) mod query;
pub mod recent;
pub(crate) mod remarks;
pub mod rows;
pub mod tags;
pub(crate) mod trusted;
