//! How a server is set up.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::devices::registry::Bounds;
use crate::http::Limits;
use crate::mqtt::BrokerUrl;
use crate::releases::UploadLimits;

/// Everything that is decided before a server starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder it keeps everything in. One server at a time.
    pub data: PathBuf,
    /// Where API and downloads listen.
    pub http: SocketAddr,
    /// The broker.
    pub mqtt: MqttConfig,
    /// How the devices' topics begin.
    pub base: String,
    /// Beginning of URLs for devices and people, such as `http://ota.example.com`; otherwise the address of this machine that
    /// others reach.
    pub public_url: Option<String>,
    /// Proxies whose `Forwarded` and `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether devices that are not known yet may come, from loopback and private networks, without a login.
    pub dev: bool,
    /// Whether people on this machine may use the dashboard without a token: for a demonstration, on a server that listens on
    /// loopback.
    pub guests: bool,
    /// A PEM file with the private key that signs releases; without one, firmware is offered as it was uploaded.
    pub signing_key: Option<PathBuf>,
    /// PEM files with more public keys: releases that were signed elsewhere are taken if one of these, or the signing key, signed
    /// them. Without any key, everybody's are.
    pub trusted_keys: Vec<PathBuf>,
    /// How many devices can become known.
    pub registration: Bounds,
    /// Limits of uploads.
    pub uploads: UploadLimits,
    /// How much there may be at once over HTTP.
    pub limits: Limits,
    /// Where metrics listen, if they shall.
    pub metrics: Option<SocketAddr>,
    /// The prefix under which Home Assistant looks for devices, if they shall appear there.
    pub home_assistant: Option<String>,
}

/// Which broker a server uses.
#[derive(Debug, Clone)]
pub enum MqttConfig {
    /// One of its own.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// Somebody else's.
    External(BrokerUrl),
}
