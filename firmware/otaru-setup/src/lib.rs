//! Settings of a device, and the ways to tell it.
//!
//! [`Settings`] keep to rules of their own; [`record`] is how settings stand in flash and in a binary; [`form`] how a browser
//! sends them; `file` how a build reads `network_credentials.toml`. `kept` is how a device keeps them, [`proof`] what becomes of
//! settings that do not work. [`dhcp`] and [`dns`] are the answers an access point must give before a phone shows the page;
//! [`sntp`] is how a server is asked for the time. [`pem`] reads certificates for TLS, `trust_store` are those that a person has set,
//! `trust` those of a file, `public` the public roots among them. All of it is bytes in, bytes out.
#![cfg_attr(not(any(test, feature = "toml")), no_std)]
#![forbid(unsafe_code)]

pub mod dhcp;
pub mod dns;
#[cfg(feature = "toml")]
pub mod file;
pub mod form;
#[cfg(feature = "flash")]
pub mod kept;
pub mod pem;
#[cfg(test)]
mod pem_text;
pub mod proof;
#[cfg(feature = "toml")]
pub mod public;
pub mod record;
mod settings;
pub mod sntp;
#[cfg(feature = "toml")]
pub mod trust;
#[cfg(feature = "trust")]
pub mod trust_store;
#[cfg(feature = "toml")]
pub mod updates;

pub use settings::{Invalid, MQTT, MQTT_TLS, MqttVersion, NETWORKS, Network, Settings};
