//! Several servers over one database: which of them does what.
//!
//! | file | what |
//! | --- | --- |
//! | [`shard`] | devices by a hash of their id |
//! | [`leases`] | who holds which shard and which task, as the database has it |
//! | [`holdings`] | what this server holds just now, and the fence before each write on its strength |
//! | [`notices`] | what all servers must hear soon |
//!
//! Time is the database's alone: the clocks of servers may differ. All transactions that write wait for each other
//! ([`db`](crate::db)), so a lease that was looked at within one cannot change before it ends.

pub mod holdings;
pub mod leases;
pub mod notices;
pub mod shard;

pub use holdings::Holdings;
pub use shard::Shard;
