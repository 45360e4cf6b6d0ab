//! A bare connection of the load: one socket, and packets of MQTT 5.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mqtt5_protocol::ConnectOptions;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::packet::connect::ConnectPacket;

/// Most time for a broker to start, and to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Types of packets, in the upper half of their first byte: MQTT 5, table 2-1.
pub(crate) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(super) const SUBACK: u8 = 9;

/// One connection, with nothing to it but a socket.
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(super) fn open(port: u16, id: &str) -> Result<Self> {
        Self::connect(port, ConnectOptions::new(id))
    }

    /// Sends a CONNECT; what is answered is not waited for.
    ///
    /// # Errors
    /// Returns an error if nothing listens at the port.
    pub(crate) fn connect(port: u16, options: ConnectOptions) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Self(BufReader::with_capacity(1 << 10, stream));
        let options = options.with_clean_start(true).with_keep_alive(Duration::from_secs(600));
        wire.send(&ConnectPacket::new(options))?;
        Ok(wire)
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// Returns an error if the packet cannot be encoded, or the connection is closed.
    pub(crate) fn send(&mut self, packet: &impl MqttPacket) -> Result<()> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes)?;
        Ok(self.0.get_mut().write_all(&bytes)?)
    }

    /// The body of the next packet, which must be of this type and tell of no failure.
    ///
    /// # Errors
    /// Returns an error if the connection is closed, the packet is of another type, or its reason code tells of a failure.
    pub(crate) fn expect(&mut self, kind: u8) -> Result<Vec<u8>> {
        let first = self.byte()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            len |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            ensure!(shift < 28, "no length");
        }
        let mut body = vec![0; len];
        self.0.read_exact(&mut body)?;
        ensure!(first >> 4 == kind, "a packet of type {} where {kind} was due", first >> 4);
        let reason = match kind {
            CONNACK => body.get(1),
            PUBACK => body.get(2),
            SUBACK => body.last(),
            _ => None,
        };
        ensure!(reason.is_none_or(|reason| *reason < 0x80), "refused: {reason:?}");
        Ok(body)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("no answer")?;
        Ok(byte[0])
    }
}
