//! A deployment: one device's way in one rollout, from the queue to its outcome.
//!
//! [`row`] is its state, [`event`] what happens to it, [`evidence`] what reports prove, [`take`] what becomes of it by both.

mod event;
mod evidence;
mod row;
mod take;

pub use event::Event;
pub use row::Deployment;
