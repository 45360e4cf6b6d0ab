//! One MQTT connection, of version 5 or 3.1.1: what the session needs of it and nothing else. Its packets are in `packet.rs`; which
//! version comes next is decided in `version.rs`.
//!
//! Every call is bounded in time. After an error the connection is dropped, never repaired.

mod packet;
mod version;

use core::fmt;
use core::num::NonZeroU16;
use core::time::Duration;

use embedded_io_async::{Read, Write};
use otaru_format::topic::Topics;
use packet::{Connect, PACKET, PINGREQ, Packet, UNSUPPORTED};
pub(crate) use packet::{Header, QoS};
pub(crate) use version::{Answer, Level, Versions};

use crate::board::Clock;
use crate::config::Config;
use crate::history::Origin;
use crate::timeout::within;

/// Bytes of an outgoing packet without its payload: topic and header.
const HEAD: usize = 192;

/// Seconds for which the broker keeps the session, and with it commands sent meanwhile, for a device that is away.
const SESSION_EXPIRY: u32 = 24 * 3600;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The socket failed or was closed.
    Network,
    /// The broker did not answer in time.
    Silent,
    /// The broker closed without a byte.
    Closed,
    /// The broker did that again, or sent an alert of TLS.
    TlsPort,
    /// The broker does not speak this version of MQTT; the other one is tried at once.
    OtherVersion,
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
    pub(crate) const fn answer(self) -> Answer {
        match self {
            Self::Refused(UNSUPPORTED) => Answer::Unsupported,
            Self::Refused(_) => Answer::Spoken,
            Self::Closed => Answer::Closed,
            _ => Answer::Nothing,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("connection lost"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Closed => f.write_str("closed without an answer"),
            Self::TlsPort => f.write_str("closed without an answer; is this a TLS port?"),
            Self::OtherVersion => f.write_str("no MQTT 5 here, trying 3.1.1"),
            Self::Refused(UNSUPPORTED) => f.write_str("the broker does not speak this version of MQTT"),
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
    /// Nothing the session must know.
    Other,
    /// A command, which the inbox knows by this number. With an `id` it is to be [acknowledged](Connection::acknowledge).
    Command { id: Option<NonZeroU16>, number: u32 },
    /// The broker took our QoS 1 publication.
    Accepted,
    /// The broker refused our QoS 1 publication, and would again (its access list, its quota).
    Rejected,
    /// The broker answered a ping.
    Pong,
    /// The broker answered to [`Connection::watch`]: whether it sends what is published there.
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
    level: Level,
    /// Bytes of the incoming packet that are here.
    have: usize,
    /// Bytes behind those that belong to a packet that was too long.
    rest: usize,
    /// The identifier that was given away last.
    last_id: NonZeroU16,
    /// The identifier of the last publication that is to be acknowledged.
    publish_id: u16,
    /// The identifier of the last packet of [`Connection::watch`].
    watch_id: u16,
    clock: &'c C,
    limit: Duration,
}

impl<'c, S: Read + Write, C: Clock> Connection<'c, S, C> {
    /// Connects, leaves the last will, and subscribes to the commands.
    ///
    /// # Errors
    /// [`Ended::answer`] tells what the error says of the version.
    pub(crate) async fn open(
        level: Level,
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
            have: 0,
            rest: 0,
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
        let header = match within(clock, limit, this.header()).await.map_err(|_| Ended::Silent)? {
            Err(Ended::Network) if this.have == 0 => return Err(Ended::Closed),
            header => header?,
        };
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
        for topic in [topics.update_all(), topics.update_one()] {
            this.subscribe(&topic, true).await?;
        }
        Ok(this)
    }

    /// The version that is spoken.
    pub(crate) const fn level(&self) -> Level {
        self.level
    }

    /// Begins or ends to hear what is published to a topic. At the beginning the answer comes later as [`Incoming::Watched`].
    pub(crate) async fn watch(&mut self, topic: &str, wanted: bool) -> Result<(), Ended> {
        self.watch_id = self.subscribe(topic, wanted).await?;
        Ok(())
    }

    /// Returns the identifier that the broker answers to.
    async fn subscribe(&mut self, topic: &str, wanted: bool) -> Result<u16, Ended> {
        let id = self.next_id();
        let packet = packet::subscribe(self.level, topic, id, wanted, &mut self.buffers.outgoing);
        send(&mut self.socket, self.clock, self.limit, packet.ok_or(Ended::BadName)?, b"").await?;
        Ok(id.get())
    }

    /// Publishes; at QoS 1 the broker's answer comes later as [`Incoming::Accepted`].
    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        qos: QoS,
    ) -> Result<(), Ended> {
        let id = (qos == QoS::AtLeastOnce).then(|| self.next_id());
        self.publish_id = id.map_or(self.publish_id, NonZeroU16::get);
        let head = packet::publish(self.level, topic, id, retain, payload.len(), &mut self.buffers.outgoing);
        send(&mut self.socket, self.clock, self.limit, head.ok_or(Ended::BadName)?, payload).await
    }

    pub(crate) fn ping(&mut self) -> impl Future<Output = Result<(), Ended>> {
        send(&mut self.socket, self.clock, self.limit, &PINGREQ, b"")
    }

    /// Waits for a packet's first bytes. May be dropped and called again.
    pub(crate) async fn header(&mut self) -> Result<Header, Ended> {
        while self.rest > 0 {
            self.read(self.rest.min(PACKET)).await?;
            self.rest -= core::mem::take(&mut self.have);
        }
        loop {
            if let Some(header) = Header::read(&self.buffers.incoming[..self.have])? {
                return Ok(header);
            }
            self.read(self.have + 1).await?;
        }
    }

    /// Reads the packet that [`Connection::header`] announced. Messages go to `on_message`, which gives back the number of those that
    /// are commands; others are acknowledged at once.
    pub(crate) async fn packet(
        &mut self,
        header: Header,
        on_message: impl FnOnce(&str, &[u8], Origin) -> Option<u32>,
    ) -> Result<Incoming, Ended> {
        let (publish_id, watch_id) = (self.publish_id, self.watch_id);
        let (incoming, acknowledge) = match self.receive(header).await? {
            Packet::Message { topic, payload, id, again, retained } => {
                let origin = match (retained, again) {
                    (true, _) => Origin::Retained,
                    (false, true) => Origin::Redelivered,
                    (false, false) => Origin::Live,
                };
                match on_message(topic, payload, origin) {
                    Some(number) => (Incoming::Command { id, number }, None),
                    None => (Incoming::Other, id),
                }
            }
            Packet::Acknowledged { id, .. } if id != publish_id => (Incoming::Other, None),
            Packet::Acknowledged { reason: 0x80.., .. } => (Incoming::Rejected, None),
            Packet::Acknowledged { .. } => (Incoming::Accepted, None),
            Packet::Subscribed { id, reason } if id == watch_id => (Incoming::Watched(reason < 0x80), None),
            Packet::Subscribed { reason: reason @ 0x80.., .. } | Packet::Closed { reason } => {
                return Err(Ended::Refused(reason));
            }
            Packet::Subscribed { .. } | Packet::Unsubscribed => (Incoming::Other, None),
            Packet::Pong => (Incoming::Pong, None),
            Packet::Connected { .. } => return Err(Ended::Protocol),
        };
        self.have = 0;
        self.rest = header.rest();
        if let Some(id) = acknowledge {
            self.acknowledge(id).await?;
        }
        Ok(incoming)
    }

    /// Tells the broker that it need not keep a message.
    pub(crate) async fn acknowledge(&mut self, id: NonZeroU16) -> Result<(), Ended> {
        send(&mut self.socket, self.clock, self.limit, &packet::acknowledge(id), b"").await
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
            Ok(count) if count > 0 => self.have += count,
            _ => return Err(Ended::Network),
        }
        Ok(())
    }

    fn next_id(&mut self) -> NonZeroU16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        self.last_id
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
