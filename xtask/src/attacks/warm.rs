//! Memory for connections, before anything is measured.
//!
//! A virtual machine gets memory from its host when it is first touched, and gives it back when it is free for a while. The buffers of
//! 5,000 connections whose peers do not read are more than a gigabyte: where their pages came from the host, the kernel took four times as
//! long for the same writes, and everybody waited a second, whatever the server did.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};

/// Bytes of one write; several fit into a connection's buffers.
static SOME: [u8; 64 << 10] = [0; 64 << 10];
/// The most that are written into one connection, as much as the server's would take.
const MOST: usize = 512 << 10;
/// Connections that are there at once.
const AT_ONCE: usize = 4_000;

/// Fills and empties the buffers of connections that have nothing to do with the server.
///
/// # Errors
/// Returns an error if the system opens no more connections.
pub(super) fn warm() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..AT_ONCE {
        let reader = TcpStream::connect(to).context("cannot connect to warm the machine")?;
        let (mut writer, _) = listener.accept()?;
        writer.set_nonblocking(true)?;
        let mut written = 0;
        while written < MOST {
            match writer.write(&SOME) {
                Ok(len) => written += len,
                Err(_) => break,
            }
        }
        pairs.push((reader, writer));
    }
    Ok(())
}
