//! Access: API tokens, sessions of the dashboard, fleet keys, devices' own logins, and the audit log.
//!
//! Secrets are random and long, so they are kept as plain SHA-256: guessing one is hopeless however fast the hash is, and a
//! slow hash would only help whoever floods the server with wrong ones.

//!
//! A function that takes a connection, or `App`, may fail as the database does; what it says under "Errors" comes on top.

pub mod audit;
pub mod certificates;
pub mod credentials;
pub mod devices;
pub mod first;
pub mod fleet_keys;
pub mod going_on;
pub mod name;
pub mod offline;
pub mod serials;
pub mod sessions;
pub mod tokens;
pub mod verify;
