//! Makes the fleet what the database says it shall be.
//!
//! | file | what |
//! | --- | --- |
//! | [`ingest`] | takes in what devices report, and whether they are there |
//! | [`inbox`] | where that comes from: the broker; `mailbox` is what waits there |
//! | [`report`] | reads a report, and bounds it |
//! | `restored` | after a restore: numbers go on above those that devices name |
//! | [`sweep`] | after a time without any server: devices that were connected are gone until they are heard |
//! | [`work`] | carries on: scans, starts, moments that have come |
//! | [`outbox`] | sends what devices are to be told |
//!
//! Everything that matters is in the database before anybody acts on it, and every step may be carried out twice: so all of this
//! can be killed at any moment and goes on where it was.

pub mod asking;
mod epochs;
pub mod inbox;
pub mod ingest;
mod mailbox;
pub mod outbox;
pub mod report;
mod restored;
pub mod sweep;
pub mod work;

pub use crate::devices::recent::Came;
pub use ingest::{take_poll, take_presence, take_report};
pub use outbox::standing_offer;
