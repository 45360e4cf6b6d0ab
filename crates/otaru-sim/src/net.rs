//! The host's network, behind a Wi-Fi that can be cut.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use otaru_device::{Link, LinkError};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

/// Sockets of one device over the host's network.
#[derive(Debug, Clone)]
pub struct TokioNet {
    wifi: Wifi,
    source: Option<IpAddr>,
}

/// A device's Wi-Fi; clones share it.
#[derive(Debug, Clone)]
pub struct Wifi {
    up: Rc<watch::Sender<bool>>,
    reachable: Rc<Cell<bool>>,
    signal: Option<i8>,
}

impl Default for Wifi {
    fn default() -> Self {
        Self { up: Rc::new(watch::Sender::new(true)), reachable: Rc::new(Cell::new(true)), signal: None }
    }
}

impl Wifi {
    /// The same, received this well, in dBm.
    #[must_use]
    pub fn received_at(self, dbm: i8) -> Self {
        Self { signal: Some(dbm), ..self }
    }

    /// Takes the access point away, or brings it back. Open connections are lost.
    pub fn set_reachable(&self, reachable: bool) {
        self.reachable.set(reachable);
        if !reachable {
            self.up.send_replace(false);
        }
    }
}

impl Link for Wifi {
    fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    async fn reconnect(&mut self) -> Result<(), LinkError> {
        if !self.reachable.get() {
            return Err(LinkError);
        }
        self.up.send_replace(true);
        Ok(())
    }

    fn rssi(&self) -> Option<i8> {
        self.signal
    }
}

impl TokioNet {
    /// The host's network through this Wi-Fi.
    pub fn new(wifi: Wifi) -> Self {
        Self { wifi, source: None }
    }

    /// The same, connecting from this address of the host.
    #[must_use]
    pub fn from_address(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }
}

/// Bytes a chip's network stack keeps for a connection; a server's bytes beyond these stay with the server.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// A TCP connection that breaks with the Wi-Fi.
pub struct Connection {
    stream: FromTokio<TcpStream>,
    link: watch::Receiver<bool>,
}

fn link_lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "Wi-Fi is down")
}

impl ErrorType for Connection {
    type Error = io::Error;
}

impl Read for Connection {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, io::Error> {
        tokio::select! {
            _ = self.link.wait_for(|up| !up) => Err(link_lost()),
            read = self.stream.read(buf) => read,
        }
    }
}

impl Write for Connection {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, io::Error> {
        tokio::select! {
            _ = self.link.wait_for(|up| !up) => Err(link_lost()),
            written = self.stream.write(buf) => written,
        }
    }

    async fn flush(&mut self) -> Result<(), io::Error> {
        self.stream.flush().await
    }
}

impl TcpConnect for TokioNet {
    type Error = io::Error;
    type Connection<'a> = Connection;

    async fn connect(&self, remote: SocketAddr) -> Result<Connection, io::Error> {
        if !self.wifi.is_up() {
            return Err(link_lost());
        }
        let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(remote).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: FromTokio::new(stream), link: self.wifi.up.subscribe() })
    }
}

impl Dns for TokioNet {
    type Error = io::Error;

    async fn get_host_by_name(&self, host: &str, kind: AddrType) -> Result<IpAddr, io::Error> {
        let wanted = |ip: &IpAddr| match kind {
            AddrType::IPv4 => ip.is_ipv4(),
            AddrType::IPv6 => ip.is_ipv6(),
            AddrType::Either => true,
        };
        let found: Vec<IpAddr> =
            tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect();
        // Most microcontrollers have no IPv6; prefer what they would use.
        let best = found
            .iter()
            .find(|ip| ip.is_ipv4())
            .filter(|ip| wanted(ip))
            .or_else(|| found.iter().find(|ip| wanted(ip)));
        best.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address"))
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, io::Error> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "reverse lookup is not needed"))
    }
}
