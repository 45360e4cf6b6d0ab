//! Security of connections.

use std::sync::Arc;

use crate::tls::Acceptor;

/// Security of a listener's connections.
#[derive(Debug, Clone)]
pub enum Transport {
    /// None.
    Plain,
    /// TLS.
    Tls(Arc<Acceptor>),
}

/// Mark of a request that came over TLS, among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverTls;
