//! Addresses of the listeners for HTTP.

use std::net::SocketAddr;

use super::error::StartError;
use crate::http;

/// Binds an address for something, which an option changes.
pub(super) async fn listen(
    address: SocketAddr,
    what: &'static str,
    option: &'static str,
) -> Result<tokio::net::TcpListener, StartError> {
    http::bind(address).await.map_err(|error| StartError::Listen { what, address, option, error })
}
