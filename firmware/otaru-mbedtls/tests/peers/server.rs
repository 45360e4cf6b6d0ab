//! Servers in memory, and a device that talks to them.

#[cfg(feature = "dated")]
use std::future::Future;
use std::sync::Arc;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{Read as _, ReadExactError, Write as _};
use otaru_device::{Tls as _, TlsError};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use crate::device::{Device, Steps, stepwise};

/// Bytes that the network holds: less than a message, so that both ends have to wait for each other.
pub(crate) const PIPE: usize = 600;
/// Words of a device. Nobody else is to hear them.
pub(crate) const LOGIN: &[u8] = b"user and password";

/// Both sides of what happened.
pub(crate) struct Meeting {
    /// Whether the device was answered.
    pub(crate) device: Result<(), TlsError>,
    /// Bytes that the server heard, or what it says of the handshake.
    pub(crate) server: Result<Vec<u8>, String>,
    pub(crate) steps: Steps,
}

/// Lets a device log in at a server, which says the same again.
pub(crate) async fn meet(device: &Device, host: &str, config: ServerConfig) -> Meeting {
    meet_over(PIPE, device, host, config).await
}

/// The same over a network that holds this many bytes.
pub(crate) async fn meet_over(pipe: usize, device: &Device, host: &str, config: ServerConfig) -> Meeting {
    let (ours, theirs) = duplex(pipe);
    let (device, server) = tokio::join!(stepwise(log_in(device, host, ours)), echo(config, theirs));
    Meeting { device: device.0, server, steps: device.1 }
}

/// Error of a device at a server that does this.
#[cfg(feature = "dated")]
pub(crate) async fn meet_strange<F: Future>(
    device: &Device,
    server: impl FnOnce(DuplexStream) -> F,
) -> Result<(), TlsError> {
    let (ours, theirs) = duplex(PIPE);
    tokio::join!(log_in(device, "files.lan", ours), server(theirs)).0
}

async fn log_in(device: &Device, host: &str, stream: DuplexStream) -> Result<(), TlsError> {
    let mut session = device.tls.open(FromTokio::new(stream), host).await?;
    session.write_all(LOGIN).await?;
    session.flush().await?;
    let mut answer = [0; LOGIN.len()];
    session.read_exact(&mut answer).await.map_err(|error| match error {
        ReadExactError::UnexpectedEof => TlsError::BROKEN,
        ReadExactError::Other(error) => error,
    })?;
    assert_eq!(answer, LOGIN);
    Ok(())
}

/// Lets a device log in and wait for an answer of this length.
#[cfg(feature = "dated")]
pub(crate) async fn log_in_for(
    device: &Device,
    host: &str,
    stream: DuplexStream,
    len: usize,
) -> Result<(), TlsError> {
    let mut session = device.tls.open(FromTokio::new(stream), host).await?;
    session.write_all(LOGIN).await?;
    session.flush().await?;
    let mut answer = vec![0; len];
    session.read_exact(&mut answer).await.map_err(|error| match error {
        ReadExactError::UnexpectedEof => TlsError::CLOSED,
        ReadExactError::Other(error) => error,
    })
}

async fn echo(config: ServerConfig, stream: DuplexStream) -> Result<Vec<u8>, String> {
    let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    let mut stream = accepted.map_err(|error| error.to_string())?;
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        if count == 0 {
            return Ok(heard);
        }
        heard.extend_from_slice(&piece[..count]);
        if stream.write_all(&piece[..count]).await.is_err() || stream.flush().await.is_err() {
            return Ok(heard);
        }
    }
}

/// Sends a device this much in one go, once it has logged in; what the device got of it.
pub(crate) async fn download(device: &Device, config: ServerConfig, size: usize) -> Result<usize, TlsError> {
    let (ours, theirs) = duplex(PIPE);
    let server = async {
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(theirs).await.unwrap();
        // The device may be gone.
        let _ = stream.write_all(&vec![7; size]).await;
        let _ = stream.shutdown().await;
    };
    let device = async {
        let mut session = device.tls.open(FromTokio::new(ours), "files.lan").await?;
        let (mut got, mut piece) = (0, [0; 1000]);
        loop {
            match session.read(&mut piece).await? {
                0 => return Ok(got),
                count => got += count,
            }
        }
    };
    tokio::join!(device, server).0
}
