//! Certificates from a directory that speaks ACME (RFC 8555), such as Let's Encrypt, which are renewed by themselves.
//!
//! A name is proven by a handshake at the HTTPS listener (tls-alpn-01, RFC 8737): the one port that has to be reached anyway.
//!
//! | file | what |
//! | --- | --- |
//! | `renewal` | gets a certificate, renews it, and waits between attempts |
//! | `advice` | moments that the directory names for a renewal |
//! | `account` | the account at the directory |
//! | `order` | one order, from the proof of its domains to the certificate |
//! | `pending` | an order whose certificate is not here yet, over restarts |
//! | `chain` | a certificate that came, held against what was asked for |
//! | `schedule` | moments of renewals, pauses after failures |
//! | `store` | account, certificate and orders, in the data folder |
//! | `challenges` | handshakes that prove a name |
//! | `failure` | orders that fail, in words |
//! | `client` | requests to the directory, bounded in time and bytes |
//! | `config` | settings |
//! | `domain` | names that certificates are for |

mod account;
mod advice;
#[cfg(test)]
mod canned;
mod chain;
mod challenges;
mod client;
mod config;
mod domain;
mod failure;
mod order;
mod pending;
mod renewal;
mod schedule;
mod store;

pub use challenges::{Challenges, HttpsCertificates, PROTOCOL};
pub use config::AcmeConfig;
pub use domain::{Domain, DomainError};
pub use renewal::AcmeRenewal;

/// Directory of Let's Encrypt, for certificates that browsers trust.
pub const LETS_ENCRYPT: &str = instant_acme::LetsEncrypt::Production.url();

/// The most domains of a certificate: a chip reads all of it.
pub const MOST_DOMAINS: usize = 24;
