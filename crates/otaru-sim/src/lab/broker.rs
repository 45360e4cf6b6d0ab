//! An MQTT broker in memory, for 5 and 3.1.1, small enough to be the same every time: retained messages, last wills,
//! takeover, QoS 0 and 1 with redelivery. It notes everything that is published.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use embedded_io_async::{Read as _, Write as _};
use mqtt5_protocol::QoS;
use mqtt5_protocol::packet::connect::ConnectPacket;
use mqtt5_protocol::packet::subscribe::SubscribePacket;
use mqtt5_protocol::packet::{FixedHeader, Packet};
use otaru_device::Clock as _;
use tokio::sync::{Notify, mpsc};

pub use super::dialect::ReasonCode;
use super::dialect::{self, EchoPolicy, Outgoing, V5, VersionRefusal};
use crate::clock::SimClock;
use crate::lan::{Lan, Stream};

/// An answer that says nothing (MQTT 5 section 3.13).
const PINGRESP: [u8; 2] = [0xD0, 0];
/// The port it listens at.
pub const PORT: u16 = 1883;

/// One message, as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Time on the clock of the lab.
    pub at: Duration,
    /// Topic.
    pub topic: String,
    /// Payload, as text where it is text.
    pub payload: String,
    /// Whether it is kept for later subscribers.
    pub retain: bool,
}

/// Messages that a broker keeps for its subscribers while they are away: the commands that operators retained, and what was not
/// acknowledged. Not what devices report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    retained: BTreeMap<String, Vec<u8>>,
    open: Vec<(String, Delivery)>,
    next_packet: u16,
}

struct Client {
    number: u64,
    name: String,
    /// Version of MQTT that it speaks.
    level: u8,
    filters: Vec<String>,
    /// Bytes of the longest packet it takes (MQTT 5 section 3.1.2.11.4).
    longest: usize,
    outbox: mpsc::UnboundedSender<Vec<u8>>,
}

struct Inner {
    clock: SimClock,
    log: RefCell<Vec<Message>>,
    retained: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Topics that operators published to.
    ordered: RefCell<BTreeSet<String>>,
    clients: RefCell<Vec<Client>>,
    next_number: Cell<u64>,
    next_packet: Cell<u16>,
    refuse: Cell<Option<ReasonCode>>,
    refuse_reports: Cell<bool>,
    only_311: Cell<Option<VersionRefusal>>,
    /// Whether it resets whoever says CONNECT.
    resets: Cell<bool>,
    echo: Cell<EchoPolicy>,
    /// Versions that were asked for, one a CONNECT.
    levels: RefCell<Vec<u8>>,
    away: Cell<bool>,
    forgetful: Cell<bool>,
    /// Deliveries that were not acknowledged, by the name of their client.
    open: RefCell<Vec<(String, Delivery)>>,
    acknowledged: RefCell<Vec<Duration>>,
    changed: Notify,
}

/// A command on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Delivery {
    id: u16,
    topic: String,
    payload: Vec<u8>,
}

/// The broker; clones share it.
#[derive(Clone)]
pub struct Broker(Rc<Inner>);

impl Broker {
    /// Starts a broker on this network, as a task of the current `LocalSet`.
    pub fn start(lan: &Lan, clock: SimClock) -> Self {
        let broker = Self(Rc::new(Inner {
            clock,
            log: RefCell::default(),
            retained: RefCell::default(),
            ordered: RefCell::default(),
            clients: RefCell::default(),
            next_number: Cell::new(0),
            next_packet: Cell::new(1),
            refuse: Cell::new(None),
            refuse_reports: Cell::new(false),
            only_311: Cell::new(None),
            resets: Cell::new(false),
            echo: Cell::default(),
            levels: RefCell::default(),
            away: Cell::new(false),
            forgetful: Cell::new(false),
            open: RefCell::default(),
            acknowledged: RefCell::default(),
            changed: Notify::new(),
        }));
        let mut listener = lan.listen(PORT);
        let this = broker.clone();
        tokio::task::spawn_local(async move {
            loop {
                let stream = listener.accept().await;
                let this = this.clone();
                tokio::task::spawn_local(async move { this.serve(stream).await });
            }
        });
        broker
    }

    /// From now on connections are refused for this reason, or no longer.
    pub fn refuse(&self, reason: Option<ReasonCode>) {
        self.0.refuse.set(reason);
    }

    /// From now on each connection breaks after its CONNECT, or no longer.
    pub fn reset_connections(&self, resets: bool) {
        self.0.resets.set(resets);
    }

    /// From now on it speaks 3.1.1 only, and answers so to whoever speaks 5; or both again.
    pub fn speak_311_only(&self, refusal: Option<VersionRefusal>) {
        self.0.only_311.set(refusal);
    }

    /// From now on it answers so to devices that want to hear their own reports.
    pub fn echo(&self, policy: EchoPolicy) {
        self.0.echo.set(policy);
    }

    /// Returns the versions of MQTT that were asked for, 5 or 4 for 3.1.1, one a CONNECT.
    pub fn levels(&self) -> Vec<u8> {
        self.0.levels.borrow().clone()
    }

    /// From now on QoS 1 publications are answered with "not authorised", or no longer. A client of 3.1.1 is told nothing.
    pub fn refuse_reports(&self, refuse: bool) {
        self.0.refuse_reports.set(refuse);
    }

    /// From now on it is gone: connections end, and new ones get no answer. Or it is there again.
    pub fn away(&self, away: bool) {
        self.0.away.set(away);
        for client in self.0.clients.borrow().iter().filter(|_| away) {
            let _ = client.outbox.send(Vec::new());
        }
    }

    /// From now on it delivers again what was acknowledged already, or no longer.
    pub fn forget_acknowledgements(&self, forget: bool) {
        self.0.forgetful.set(forget);
    }

    /// Returns the times at which commands were acknowledged, on the clock of the lab.
    pub fn acknowledged(&self) -> Vec<Duration> {
        self.0.acknowledged.borrow().clone()
    }

    /// Publishes a command, as an operator does.
    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>, retain: bool) {
        self.0.ordered.borrow_mut().insert(topic.to_owned());
        self.accept(topic, payload.as_ref(), retain);
    }

    /// Returns the messages that it keeps for its subscribers.
    pub fn memory(&self) -> Memory {
        let mut retained = self.0.retained.borrow().clone();
        retained.retain(|topic, _| self.0.ordered.borrow().contains(topic));
        let (open, next_packet) = (self.0.open.borrow().clone(), self.0.next_packet.get());
        Memory { retained, open, next_packet }
    }

    /// Goes on with what another broker kept.
    pub fn remember(&self, memory: &Memory) {
        let Memory { retained, open, next_packet } = memory.clone();
        self.0.ordered.borrow_mut().extend(retained.keys().cloned());
        *self.0.retained.borrow_mut() = retained;
        *self.0.open.borrow_mut() = open;
        self.0.next_packet.set(next_packet);
    }

    /// Everything published so far.
    pub fn messages(&self) -> Vec<Message> {
        self.0.log.borrow().clone()
    }

    /// Names of the clients that are connected.
    pub fn connected(&self) -> Vec<String> {
        self.0.clients.borrow().iter().map(|client| client.name.clone()).collect()
    }

    /// Whether a client listens to this topic.
    pub fn subscribed(&self, topic: &str) -> bool {
        let clients = self.0.clients.borrow();
        clients.iter().any(|client| client.filters.iter().any(|filter| filter == topic))
    }

    /// Waits until `wanted` holds of what was published; it is asked again after every message.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&[Message]) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if wanted(&self.0.log.borrow()) {
                return;
            }
            changed.await;
        }
    }

    fn accept(&self, topic: &str, payload: &[u8], retain: bool) {
        if retain {
            let mut retained = self.0.retained.borrow_mut();
            if payload.is_empty() {
                retained.remove(topic);
            } else {
                retained.insert(topic.to_owned(), payload.to_vec());
            }
        }
        for client in self.0.clients.borrow().iter() {
            if client.filters.iter().any(|filter| filter == topic) {
                let _ = client.outbox.send(self.delivery(client, topic, payload, false));
            }
        }
        self.0.log.borrow_mut().push(Message {
            at: self.0.clock.now(),
            topic: topic.to_owned(),
            payload: String::from_utf8_lossy(payload).into_owned(),
            retain,
        });
        self.0.changed.notify_waiters();
    }

    /// A packet for a client; nothing if it is longer than the client takes.
    fn delivery(&self, client: &Client, topic: &str, payload: &[u8], retained: bool) -> Vec<u8> {
        let id = self.0.next_packet.get();
        self.0.next_packet.set(id % 60_000 + 1);
        let bytes = Outgoing { id, topic, payload, retained, again: false }.encode(client.level);
        if bytes.len() > client.longest {
            return PINGRESP.to_vec();
        }
        let delivery = Delivery { id, topic: topic.to_owned(), payload: payload.to_vec() };
        self.0.open.borrow_mut().push((client.name.clone(), delivery));
        bytes
    }

    /// Sends once more what a client has not acknowledged.
    fn redeliver(&self, client: &str, level: u8, outbox: &mpsc::UnboundedSender<Vec<u8>>) {
        for (_, Delivery { id, topic, payload }) in
            self.0.open.borrow().iter().filter(|(name, _)| name == client)
        {
            let packet = Outgoing { id: *id, topic, payload, retained: false, again: true };
            let _ = outbox.send(packet.encode(level));
        }
    }

    async fn serve(&self, stream: Stream) {
        let mut connection = Connection { stream, bytes: BytesMut::new(), level: V5 };
        let Some(Packet::Connect(connect)) = connection.next().await else { return };
        if self.0.away.get() {
            return;
        }
        let level = connect.protocol_version;
        connection.level = level;
        self.0.levels.borrow_mut().push(level);
        if self.0.resets.get() {
            connection.stream.reset();
            return;
        }
        if let Some(refusal) = self.0.only_311.get().filter(|_| level == V5) {
            connection.send(refusal.bytes()).await;
            return;
        }
        if let Some(reason) = self.0.refuse.get() {
            connection.send(&dialect::connack(level, reason)).await;
            return;
        }
        let (outbox, mut outgoing) = mpsc::unbounded_channel();
        let number = self.enter(&connect, outbox.clone());
        connection.send(&dialect::connack(level, ReasonCode::Success)).await;
        if connect.clean_start {
            self.0.open.borrow_mut().retain(|(name, _)| *name != connect.client_id);
        }
        self.redeliver(&connect.client_id, level, &outbox);
        let clean = loop {
            tokio::select! {
                packet = connection.next() => match packet {
                    Some(Packet::Disconnect(_)) => break true,
                    Some(packet) => self.handle(packet, level, number, &outbox),
                    None => break false,
                },
                bytes = outgoing.recv() => match bytes {
                    Some(bytes) if !bytes.is_empty() => if !connection.send(&bytes).await { break false },
                    _ => break false,
                },
            }
        };
        self.0.clients.borrow_mut().retain(|client| client.number != number);
        if let Some(will) = connect.will.filter(|_| !clean) {
            self.accept(&will.topic, &will.payload, will.retain);
        }
        self.0.changed.notify_waiters();
    }

    /// Registers a client; another of the same name is thrown out.
    fn enter(&self, connect: &ConnectPacket, outbox: mpsc::UnboundedSender<Vec<u8>>) -> u64 {
        let number = self.0.next_number.get();
        self.0.next_number.set(number + 1);
        let mut clients = self.0.clients.borrow_mut();
        for old in clients.iter().filter(|client| client.name == connect.client_id) {
            let _ = old.outbox.send(Vec::new());
        }
        let longest = connect.properties.get_maximum_packet_size().map_or(usize::MAX, |len| len as usize);
        let (name, level) = (connect.client_id.clone(), connect.protocol_version);
        clients.push(Client { number, name, level, filters: Vec::new(), longest, outbox });
        number
    }

    fn handle(&self, packet: Packet, level: u8, number: u64, outbox: &mpsc::UnboundedSender<Vec<u8>>) {
        let answer = match packet {
            Packet::PingReq => PINGRESP.to_vec(),
            Packet::PubAck(ack) => {
                let forget = self.0.forgetful.get();
                self.0.open.borrow_mut().retain(|(_, delivery)| forget || delivery.id != ack.packet_id);
                self.0.acknowledged.borrow_mut().push(self.0.clock.now());
                return;
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, level, number),
            Packet::Unsubscribe(unsubscribe) => {
                let mut clients = self.0.clients.borrow_mut();
                for client in clients.iter_mut().filter(|client| client.number == number) {
                    client.filters.retain(|filter| !unsubscribe.filters.contains(filter));
                }
                dialect::unsuback(level, unsubscribe.packet_id)
            }
            Packet::Publish(publish) => {
                let refused = publish.qos != QoS::AtMostOnce && self.0.refuse_reports.get();
                if !refused {
                    self.accept(&publish.topic_name, &publish.payload, publish.retain);
                }
                let reason = if refused { ReasonCode::NotAuthorized } else { ReasonCode::Success };
                match publish.packet_id {
                    Some(id) => dialect::puback(level, id, reason),
                    None => return,
                }
            }
            _ => return,
        };
        let _ = outbox.send(answer);
    }

    /// The answer, which is empty to end the connection, with the retained messages behind it.
    fn subscribe(&self, subscribe: &SubscribePacket, level: u8, number: u64) -> Vec<u8> {
        let mut granted = Vec::new();
        let mut after = Vec::new();
        for filter in &subscribe.filters {
            let own = filter.filter.ends_with("/status");
            match self.0.echo.get() {
                EchoPolicy::Closes if own => return Vec::new(),
                EchoPolicy::Ignored if own => return PINGRESP.to_vec(),
                policy => granted.push(!own || policy == EchoPolicy::Granted),
            }
            let mut clients = self.0.clients.borrow_mut();
            let Some(client) = clients.iter_mut().find(|client| client.number == number) else { continue };
            if granted.last() == Some(&false) {
                continue;
            }
            client.filters.push(filter.filter.clone());
            if let Some(payload) = self.0.retained.borrow().get(&filter.filter) {
                after.extend(self.delivery(client, &filter.filter, payload, true));
            }
        }
        let mut answer = dialect::suback(level, subscribe.packet_id, &granted);
        answer.extend(after);
        answer
    }
}

struct Connection {
    stream: Stream,
    bytes: BytesMut,
    level: u8,
}

impl Connection {
    /// The next packet; `None` when the connection is over or not MQTT.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            let mut ahead = &self.bytes[..];
            if let Ok(header) = FixedHeader::decode(&mut ahead) {
                let body = header.remaining_length as usize;
                if ahead.len() >= body {
                    let header_len = self.bytes.len() - ahead.len();
                    let body_bytes = &mut &ahead[..body];
                    let packet = Packet::decode_from_body_with_version(
                        header.packet_type,
                        &header,
                        body_bytes,
                        self.level,
                    );
                    self.bytes.advance(header_len + body);
                    return packet.ok();
                }
            }
            let mut buf = [0; 2048];
            match self.stream.read(&mut buf).await {
                Ok(count) if count > 0 => self.bytes.extend_from_slice(&buf[..count]),
                _ => return None,
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }
}
