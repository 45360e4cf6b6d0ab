//! Routing without sockets: sessions, subscriptions, retained messages, wills, queues, and who is charged for them.
//!
//! All of it is synchronous and takes the time as an argument. Packets of a connection go in, answers are written to a buffer, and
//! what others are to be sent waits in their sessions; their [signals](crate::signal::Signal) are raised.

mod account;
mod arrive;
mod backlog;
mod depart;
mod due;
mod end;
mod half;
mod ids;
mod login;
mod message;
mod receive;
mod retained;
mod room;
mod route;
mod session;
mod state;
mod stats;
mod subscribe;
mod subscriptions;
mod take;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use arrive::{ASSIGNED_ID, Accepted, manner};
pub(crate) use half::Reserved;
pub(crate) use ids::Link;
pub(crate) use login::{Ended, Ticket};
pub(crate) use state::Router;
pub use stats::Stats;
pub(crate) use take::Taken;
