//! Sockets from any address of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// A connection that does not wait for anything, from this address.
///
/// # Errors
/// Returns an error if the system opens no more sockets.
pub(super) fn socket(from: Ipv4Addr) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    Ok(socket)
}
