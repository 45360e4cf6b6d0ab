//! One MQTT connection, of version 5 or 3.1.1: what the session needs of it and nothing else. Its packets are in `packet.rs`; which
//! version comes next is decided in `otaru-format`, as for programs.
//!
//! Every call is bounded in time. After an error the connection is dropped, never repaired.

mod packet;

use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

use embedded_io_async::{Read, Write};
use otaru_format::mqtt::{Outcome, Version};
use otaru_format::topic::Topics;
use packet::{Connect, PACKET, PINGREQ, Packet, UNSUPPORTED};
pub(crate) use packet::{Header, QoS};

use crate::board::Clock;
use crate::config::Config;
use crate::history::Origin;
use crate::timeout::within;

/// Bytes of an outgoing packet without its payload: topic and header.
const HEAD: usize = 192;

/// Longest payload that comes back whole from a broker, whatever the topic is that it was sent to.
pub(crate) const ECHOED: usize = PACKET - HEAD;

/// Seconds for which the broker keeps the session, and with it commands sent meanwhile, for a device that is away.
const SESSION_EXPIRY: u32 = 24 * 3600;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The socket failed or was closed.
    Network,
    /// The broker did not answer in time.
    Silent,
    /// The broker closed without a byte. A connection that broke is [`Ended::Network`]: a chip's network reports whatever ends one out
    /// of order alike, be it the broker's doing, a timeout or the Wi-Fi's end.
    Closed,
    /// The broker did that again, or sent an alert of TLS.
    TlsPort,
    /// The broker refused or closed, with its reason code (MQTT 5 section 2.4).
    Refused(u8),
    /// The broker broke the protocol.
    Protocol,
    /// A topic or name cannot be used.
    BadName,
}

impl Ended {
    /// Reasons that will not go away by trying again soon: bad login, not authorised, banned, taken over.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, Self::Refused(0x85 | 0x86 | 0x87 | 0x8A | 0x8C | 0x8E) | Self::BadName)
    }

    /// Returns what an attempt to connect that ended so says of the version that was tried.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::Refused(UNSUPPORTED) => Outcome::WrongVersion,
            Self::Closed => Outcome::ClosedWithoutAByte,
            _ => Outcome::SaysNothing,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("connection lost"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Closed => f.write_str("closed without a word"),
            Self::TlsPort => f.write_str("no answer; is this a TLS port?"),
            Self::Refused(UNSUPPORTED) => f.write_str("the broker speaks another MQTT version"),
            Self::Refused(0x86) => f.write_str("the broker refused the user name or password"),
            Self::Refused(0x87) => {
                f.write_str("the broker says: not authorised (user name, password or access rules)")
            }
            Self::Refused(0x8E) => f.write_str("another client uses this device's name"),
            Self::Refused(code) => write!(f, "the broker ended it with reason 0x{code:02x}"),
            Self::Protocol => f.write_str("the broker broke the protocol"),
            Self::BadName => f.write_str("device or topic name cannot be used"),
        }
    }
}

impl From<packet::Broken> for Ended {
    fn from(_: packet::Broken) -> Self {
        Self::Protocol
    }
}

/// Packet that arrived.
pub(crate) enum Incoming {
    /// Nothing the session must know; with an `id` it is to be [acknowledged](Connection::put_acknowledgement).
    Other { id: Option<NonZeroU16> },
    /// A command, which the inbox knows by this number. With an `id` it is to be acknowledged once that was dealt with.
    Command { id: Option<NonZeroU16>, number: u32 },
    /// The broker took our QoS 1 publication.
    Accepted,
    /// The broker refused our QoS 1 publication, and would again (its access list, its quota).
    Rejected,
    /// The broker answered a ping.
    Pong,
    /// The broker answered to a subscription that may fail: whether it sends what is published there.
    Watched(bool),
}

/// The memory of a [`Connection`]; apart from it, so that moving that moves no buffers.
pub(crate) struct Buffers {
    incoming: [u8; PACKET],
    outgoing: [u8; HEAD],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { incoming: [0; PACKET], outgoing: [0; HEAD] }
    }
}

/// An open connection.
pub(crate) struct Connection<'c, S, C> {
    socket: S,
    buffers: &'c mut Buffers,
    level: Version,
    /// Whether the broker took the connection.
    is_open: bool,
    /// Bytes of the incoming packet that are here.
    have: usize,
    /// Bytes behind those that belong to a packet that was too long.
    rest: usize,
    /// Bytes of the outgoing packet's head.
    head: usize,
    /// The identifier that was given away last.
    last_id: NonZeroU16,
    /// The identifier of the last publication that is to be acknowledged.
    publish_id: u16,
    /// The identifier of the last subscription that may fail.
    watch_id: u16,
    clock: &'c C,
    limit: Duration,
}

impl<'c, S: Read + Write, C: Clock> Connection<'c, S, C> {
    /// Connects, and leaves the last will.
    ///
    /// # Errors
    /// [`Ended::outcome`] tells what the error says of the version.
    pub(crate) async fn open(
        level: Version,
        socket: S,
        buffers: &'c mut Buffers,
        config: &Config<'_>,
        topics: &Topics<'_>,
        clock: &'c C,
    ) -> Result<Self, Ended> {
        let limit = config.answer_timeout;
        let mut this = Self {
            socket,
            buffers,
            level,
            is_open: false,
            have: 0,
            rest: 0,
            head: 0,
            last_id: NonZeroU16::MIN,
            publish_id: 0,
            watch_id: 0,
            clock,
            limit,
        };
        let connect = Connect {
            client: config.device,
            login: config.credentials.as_ref().map(|login| (login.username, login.password)),
            will: (&topics.online(), "offline"),
            keep_alive: u16::try_from(config.keep_alive.as_secs()).unwrap_or(0),
            session_expiry: SESSION_EXPIRY,
        };
        // Nothing has come in yet, and there is room for long passwords.
        let packet = connect.write(level, &mut this.buffers.incoming).ok_or(Ended::BadName)?;
        send(&mut this.socket, clock, limit, packet, b"").await?;
        let header = within(clock, limit, this.header()).await.map_err(|_| Ended::Silent)??;
        if header.is_tls_alert() {
            return Err(Ended::TlsPort);
        }
        match this.receive(header).await? {
            Packet::Connected { reason: 0 } => {}
            Packet::Connected { reason } | Packet::Closed { reason } => return Err(Ended::Refused(reason)),
            _ => return Err(Ended::Protocol),
        }
        this.have = 0;
        this.rest = header.rest();
        this.is_open = true;
        Ok(this)
    }

    /// The version that is spoken.
    pub(crate) const fn level(&self) -> Version {
        self.level
    }

    // One packet is made ready to be sent, then sent: a future for each kind would take its code each time.

    /// Makes the beginning or the end of a subscription ready. Where the broker refuses to begin one, the connection is at its end, but
    /// for one that `may_fail`: then [`Incoming::Watched`] comes.
    pub(crate) fn put_subscription(
        &mut self,
        topic: &str,
        wanted: bool,
        may_fail: bool,
    ) -> Result<(), Ended> {
        self.put(|level, id, out| packet::subscribe(level, topic, id, wanted, out))?;
        if may_fail {
            self.watch_id = self.last_id.get();
        }
        Ok(())
    }

    /// Makes a message ready, but for its payload of `len` bytes; at QoS 1 the broker's answer comes later as [`Incoming::Accepted`].
    pub(crate) fn put_message(
        &mut self,
        topic: &str,
        len: usize,
        retain: bool,
        qos: QoS,
    ) -> Result<(), Ended> {
        let is_sure = qos == QoS::AtLeastOnce;
        self.put(|level, id, out| packet::publish(level, topic, is_sure.then_some(id), retain, len, out))?;
        if is_sure {
            self.publish_id = self.last_id.get();
        }
        Ok(())
    }

    /// Makes ready what tells the broker that it need not keep a message.
    pub(crate) fn put_acknowledgement(&mut self, id: NonZeroU16) {
        self.put_bytes(&packet::acknowledge(id));
    }

    /// Makes a ping ready.
    pub(crate) fn put_ping(&mut self) {
        self.put_bytes(&PINGREQ);
    }

    /// Sends what was made ready, and the payload that goes with it.
    pub(crate) fn send(&mut self, payload: &[u8]) -> impl Future<Output = Result<(), Ended>> {
        let head = self.buffers.outgoing.get(..self.head).unwrap_or_default();
        send(&mut self.socket, self.clock, self.limit, head, payload)
    }

    fn put(
        &mut self,
        write: impl for<'b> FnOnce(Version, NonZeroU16, &'b mut [u8]) -> Option<&'b [u8]>,
    ) -> Result<(), Ended> {
        self.last_id = self.last_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        self.head = write(self.level, self.last_id, &mut self.buffers.outgoing).ok_or(Ended::BadName)?.len();
        Ok(())
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.head = bytes.len();
        self.buffers.outgoing.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// Waits for a packet's first bytes. May be dropped and called again.
    pub(crate) async fn header(&mut self) -> Result<Header, Ended> {
        loop {
            let rest = self.rest.min(PACKET);
            let end = if rest > 0 { rest } else { self.have + 1 };
            if rest == 0
                && let Some(header) = Header::read(&self.buffers.incoming[..self.have])?
            {
                return Ok(header);
            }
            self.read(end).await?;
            if rest > 0 {
                self.rest -= core::mem::take(&mut self.have);
            }
        }
    }

    /// Reads the packet that [`Connection::header`] announced. Messages go to `on_message`, which gives back the number of those that
    /// are commands.
    pub(crate) async fn packet(
        &mut self,
        header: Header,
        on_message: impl FnOnce(&str, &[u8], Origin) -> Option<u32>,
    ) -> Result<Incoming, Ended> {
        let (publish_id, watch_id) = (self.publish_id, self.watch_id);
        let other = Incoming::Other { id: None };
        let incoming = match self.receive(header).await? {
            Packet::Message { topic, payload, id, again, retained } => {
                let origin = match (retained, again) {
                    (true, _) => Origin::Retained,
                    (false, true) => Origin::Redelivered,
                    (false, false) => Origin::Live,
                };
                match on_message(topic, payload, origin) {
                    Some(number) => Incoming::Command { id, number },
                    None => Incoming::Other { id },
                }
            }
            Packet::Acknowledged { id, .. } if id != publish_id => other,
            Packet::Acknowledged { reason: 0x80.., .. } => Incoming::Rejected,
            Packet::Acknowledged { .. } => Incoming::Accepted,
            Packet::Subscribed { id, reason } if id == watch_id => Incoming::Watched(reason < 0x80),
            Packet::Subscribed { reason: reason @ 0x80.., .. } | Packet::Closed { reason } => {
                return Err(Ended::Refused(reason));
            }
            Packet::Subscribed { .. } | Packet::Unsubscribed => other,
            Packet::Pong => Incoming::Pong,
            Packet::Connected { .. } => return Err(Ended::Protocol),
        };
        self.have = 0;
        self.rest = header.rest();
        Ok(incoming)
    }

    /// The packet behind a header, when it is whole; it stays in memory until `have` is 0 again.
    async fn receive(&mut self, header: Header) -> Result<Packet<'_>, Ended> {
        let (clock, limit) = (self.clock, self.limit);
        within(clock, limit, async {
            while self.have < header.packet_len() {
                self.read(header.packet_len()).await?;
            }
            Ok::<_, Ended>(())
        })
        .await
        .map_err(|_| Ended::Silent)??;
        Ok(Packet::read(self.level, header, &self.buffers.incoming)?)
    }

    /// Reads more of a packet, up to its byte `end`.
    async fn read(&mut self, end: usize) -> Result<(), Ended> {
        let room = self.buffers.incoming.get_mut(self.have..end).ok_or(Ended::Protocol)?;
        match self.socket.read(room).await {
            Ok(0) if self.have == 0 && !self.is_open => Err(Ended::Closed),
            Ok(count) if count > 0 => {
                self.have += count;
                Ok(())
            }
            _ => Err(Ended::Network),
        }
    }
}

/// Sends a packet, the end of which may stand elsewhere.
async fn send<S: Write, C: Clock>(
    socket: &mut S,
    clock: &C,
    limit: Duration,
    head: &[u8],
    payload: &[u8],
) -> Result<(), Ended> {
    within(clock, limit, async {
        socket.write_all(head).await?;
        socket.write_all(payload).await?;
        socket.flush().await
    })
    .await
    .map_err(|_| Ended::Silent)?
    .map_err(|_| Ended::Network)
}
