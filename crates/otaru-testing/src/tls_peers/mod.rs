//! Peers over TLS, good and bad: one table of rows, each a name, a peer, and the error that a device must tell. Both TLS libraries are held
//! against it, on the virtual board and on a PC with that of the chips.
//!
//! A peer has no network: [`converse()`] lends it one. [`tls_rows!`](crate::tls_rows) makes a test of each row.

mod bytes;
mod certificates;
mod converse;
mod peer;
mod renegotiation;
mod row;
mod rows;
mod weak;

pub use certificates::{Authority, Chain, SMALL_RECORDS, certificates_pem, key, self_signed};
pub use converse::converse;
pub use peer::{App, Peer, Then};
pub use row::{HOST, Library, Maker, NOW, Row};
pub use rows::row;
