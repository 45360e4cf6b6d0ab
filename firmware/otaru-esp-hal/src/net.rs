//! Sockets on `embassy-net`, with buffers by purpose.
//!
//! A download wants a large receive window: it is what arrives while a block of flash is erased. MQTT wants none.
//! So there is a socket of each kind. The broker's port tells which is meant, and a web server may have the same one: who
//! connects while the socket of one kind is taken gets the other.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};

use embassy_net::Stack;
use embassy_net::dns::DnsSocket;
use embassy_net::tcp::Error;
use embassy_net::tcp::client::{TcpClient, TcpClientState, TcpConnection};
use embedded_io_async::{ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use otaru_device::{Link, LinkError};

/// Bytes that may wait to be sent: a status report, a request.
const SEND: usize = 1536;
/// Bytes of MQTT that may wait to be read: a command.
const RECEIVE_MQTT: usize = 1536;
/// The window of a download. 150 ms of a block erase at 1 Mbit/s are 19 KB, less the agent's own 7 KiB. The radio must be
/// able to hold what it allows, see [`FRAMES`]; where memory is scarce the window is smaller, and downloads are slower.
const RECEIVE_HTTP: usize = match cfg!(feature = "esp32s2") {
    true => 8 * 1024,
    false => 16 * 1024,
};

/// Bytes of a full segment: the radio's MTU of 1492 less the headers of IP and TCP.
const SEGMENT: usize = 1492 - 40;
/// The frames that the radio's driver must be able to hold, as receive buffers and as places in its queue. While a block of
/// flash is erased interrupts are off for 150 ms: a server sends all that the windows allow, only the hardware receives, and
/// then the driver hands everything over before the network stack's task has its turn. Whatever has no place is lost and
/// sent again after a timeout, for which the window is of no use. Two more are for frames to all, such as ARP's.
pub const FRAMES: usize = RECEIVE_HTTP.div_ceil(SEGMENT) + RECEIVE_MQTT.div_ceil(SEGMENT) + 2;

/// The memory of the agent's sockets, for a static.
pub struct Sockets {
    mqtt: TcpClientState<1, SEND, RECEIVE_MQTT>,
    http: TcpClientState<1, SEND, RECEIVE_HTTP>,
}

impl Sockets {
    /// Unused sockets.
    pub const fn new() -> Self {
        Self { mqtt: TcpClientState::new(), http: TcpClientState::new() }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self::new()
    }
}

/// Sockets and names for the agent.
pub struct Net<'d> {
    mqtt: TcpClient<'d, 1, SEND, RECEIVE_MQTT>,
    http: TcpClient<'d, 1, SEND, RECEIVE_HTTP>,
    dns: DnsSocket<'d>,
    broker_port: u16,
    mqtt_taken: Cell<bool>,
    http_taken: Cell<bool>,
}

impl<'d> Net<'d> {
    /// Sockets on a stack; connections to `broker_port` are MQTT, if there is none yet.
    pub fn new(stack: Stack<'d>, sockets: &'d Sockets, broker_port: u16) -> Self {
        Self {
            mqtt: TcpClient::new(stack, &sockets.mqtt),
            http: TcpClient::new(stack, &sockets.http),
            dns: DnsSocket::new(stack),
            broker_port,
            mqtt_taken: Cell::new(false),
            http_taken: Cell::new(false),
        }
    }
}

/// Notes that a socket is taken, until it is dropped.
struct Taken<'m>(&'m Cell<bool>);

impl<'m> Taken<'m> {
    fn new(cell: &'m Cell<bool>) -> Self {
        cell.set(true);
        Self(cell)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

enum Socket<'m> {
    Mqtt(TcpConnection<'m, 1, SEND, RECEIVE_MQTT>),
    Http(TcpConnection<'m, 1, SEND, RECEIVE_HTTP>),
}

/// A connection with small or large buffers.
pub struct Connection<'m> {
    // Given back before it is noted as free.
    socket: Socket<'m>,
    _taken: Taken<'m>,
}

impl ErrorType for Connection<'_> {
    type Error = Error;
}

impl Read for Connection<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        match &mut self.socket {
            Socket::Mqtt(socket) => socket.read(buf).await,
            Socket::Http(socket) => socket.read(buf).await,
        }
    }
}

impl Write for Connection<'_> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
        match &mut self.socket {
            Socket::Mqtt(socket) => socket.write(buf).await,
            Socket::Http(socket) => socket.write(buf).await,
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        match &mut self.socket {
            Socket::Mqtt(socket) => socket.flush().await,
            Socket::Http(socket) => socket.flush().await,
        }
    }
}

impl TcpConnect for Net<'_> {
    type Error = Error;
    type Connection<'m>
        = Connection<'m>
    where
        Self: 'm;

    async fn connect<'m>(&'m self, remote: SocketAddr) -> Result<Connection<'m>, Error> {
        if !remote.is_ipv4() {
            return Err(Error::ConnectionReset);
        }
        let for_broker = remote.port() == self.broker_port;
        let meant = if for_broker { &self.mqtt_taken } else { &self.http_taken };
        // With two kinds and two who connect, one is always free.
        let mqtt = for_broker != meant.get();
        let cell = if mqtt { &self.mqtt_taken } else { &self.http_taken };
        if cell.get() {
            return Err(Error::ConnectionReset);
        }
        let taken = Taken::new(cell);
        let socket = match mqtt {
            true => Socket::Mqtt(self.mqtt.connect(remote).await?),
            false => Socket::Http(self.http.connect(remote).await?),
        };
        Ok(Connection { socket, _taken: taken })
    }
}

impl Dns for Net<'_> {
    type Error = embassy_net::dns::Error;

    /// IPv4 only: that is what the stack speaks.
    async fn get_host_by_name(&self, host: &str, _: AddrType) -> Result<IpAddr, Self::Error> {
        self.dns.get_host_by_name(host, AddrType::IPv4).await
    }

    /// Not offered; the agent does not ask.
    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, Self::Error> {
        Err(embassy_net::dns::Error::Failed)
    }
}

/// The way to the network for a firmware that joins by itself, and restarts its radio itself: the stack tells whether it did.
#[derive(Clone, Copy)]
pub struct StackLink<'d>(Stack<'d>);

impl<'d> StackLink<'d> {
    /// Looks at this stack.
    pub const fn new(stack: Stack<'d>) -> Self {
        Self(stack)
    }
}

impl Link for StackLink<'_> {
    fn is_up(&self) -> bool {
        self.0.is_config_up()
    }

    /// Waits until the firmware has joined; the agent bounds the time.
    async fn reconnect(&mut self) -> Result<(), LinkError> {
        self.0.wait_config_up().await;
        Ok(())
    }
}
