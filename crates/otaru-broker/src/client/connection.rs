//! One connection, from the CONNACK to its end: packets in and out, pings, answers.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::flight::{InFlight, Kind, Reply};
use super::frame::{Frame, Frames};
use super::handshake::{Accepted, READ, Wire};
use super::message::LONGEST_MESSAGE;
use super::pace::Pace;
use super::packet::{self, Limits, Outgoing, Packet};
use super::subscription::{Sink, Subscriptions};
use crate::version::Version;

/// QoS 1 messages under way at once, where the broker allows more or, in 3.1.1, does not say: hosted brokers end connections with more
/// than a hundred.
const UNDER_WAY_5: usize = 1000;
const UNDER_WAY_311: usize = 100;
/// Bytes that wait to be sent beyond which callers wait.
const MOST_OUT: usize = 256 * 1024;
/// Bytes that wait to be sent beyond which nothing is read, either: a broker that does not take its acknowledgements gets no more.
const MOST_OUT_AND_ACKNOWLEDGED: usize = 2 * MOST_OUT;
/// Time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Request of a program.
pub(super) enum Command {
    /// Publish this.
    Publish(Outgoing, Reply),
    /// Subscribe to this filter.
    Subscribe(String, Sink, Reply),
}

/// State that all connections of a client share.
pub(super) struct Desk {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) subscriptions: Subscriptions,
    /// Says that the program wants no more: its other end is dropped.
    pub(super) stop: watch::Receiver<()>,
}

/// End of a connection.
#[derive(Debug)]
pub(super) enum End {
    /// The program wanted it.
    Wanted,
    /// It was lost, for this reason.
    Lost(String),
}

/// Runs a connection to its end. Says when everything is subscribed to again.
pub(super) async fn run(accepted: Accepted, desk: &mut Desk, pace: Pace, mut on_ready: impl FnMut()) -> End {
    let Accepted { stream, version, limits, early } = accepted;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut talk = Talk::new(version, limits, pace);
    let mut is_ready = false;
    // Over TLS, what was written may still wait for its record to be sent.
    let mut is_flushed = true;
    let mut buf = [0; READ];
    let mut begun =
        talk.resubscribe(&desk.subscriptions).and_then(|()| talk.take(&early, &mut desk.subscriptions));
    loop {
        if let Err(why) = begun {
            let _ = timeout(GOODBYE, goodbye(&mut writer, &mut talk.out)).await;
            return End::Lost(why);
        }
        if !is_ready && !talk.in_flight.has_subscriptions() {
            is_ready = true;
            on_ready();
        }
        begun = tokio::select! {
            _ = desk.stop.changed() => {
                let _ = timeout(GOODBYE, goodbye(&mut writer, &mut talk.out)).await;
                return End::Wanted;
            }
            read = reader.read(&mut buf), if talk.out.len() < MOST_OUT_AND_ACKNOWLEDGED => match read {
                Ok(len) if len > 0 => talk.take(buf.get(..len).unwrap_or_default(), &mut desk.subscriptions),
                _ => return End::Lost("the broker closed the connection".into()),
            },
            sent = send(&mut writer, &talk.out), if !talk.out.is_empty() || !is_flushed => match sent {
                Ok(len) => {
                    talk.out.advance(len.unwrap_or(0));
                    is_flushed = len.is_none();
                    Ok(())
                }
                Err(_) => return End::Lost("the connection broke".into()),
            },
            Some(command) = desk.commands.recv(), if talk.has_room() || !is_ready => {
                // What is asked for before the connection is whole is refused, as while it is away.
                if is_ready {
                    talk.ask(command, &mut desk.subscriptions);
                }
                Ok(())
            }
            () = sleep_until(talk.next_look()) => talk.look(),
        };
    }
}

/// Writes some of what waits, and returns how much; `None` when nothing waits and all that was written is on its way. May be dropped.
async fn send(writer: &mut WriteHalf<Wire>, out: &[u8]) -> std::io::Result<Option<usize>> {
    match out {
        [] => writer.flush().await.map(|()| None),
        out => writer.write(out).await.map(Some),
    }
}

/// Sends what waits, and DISCONNECT.
async fn goodbye(writer: &mut WriteHalf<Wire>, out: &mut BytesMut) -> std::io::Result<()> {
    out.extend_from_slice(&packet::DISCONNECT);
    writer.write_all_buf(out).await?;
    writer.shutdown().await
}

/// State of a connection. An error is the reason for which it ends.
struct Talk {
    version: Version,
    limits: Limits,
    pace: Pace,
    frames: Frames,
    out: BytesMut,
    in_flight: InFlight,
    /// Messages under way that are the most.
    most: usize,
    ping_every: Duration,
    ping_at: Instant,
    /// Moment by which an answer to a ping must have come, if one is due.
    pong_by: Option<Instant>,
}

impl Talk {
    fn new(version: Version, limits: Limits, pace: Pace) -> Self {
        let most = match version {
            Version::V5 => limits.under_way.min(UNDER_WAY_5),
            Version::V311 => UNDER_WAY_311,
        };
        // Early enough for a slow network.
        let ping_every = limits.keep_alive.unwrap_or(pace.keep_alive).min(pace.keep_alive) * 3 / 4;
        Self {
            version,
            limits,
            pace,
            frames: Frames::default(),
            out: BytesMut::new(),
            in_flight: InFlight::default(),
            most,
            ping_every,
            ping_at: Instant::now() + ping_every,
            pong_by: None,
        }
    }

    /// Asks again for everything that an earlier connection had.
    fn resubscribe(&mut self, subscriptions: &Subscriptions) -> Result<(), String> {
        for filter in subscriptions.filters() {
            self.subscribe(filter, None).map_err(|()| "there are too many subscriptions".to_owned())?;
        }
        Ok(())
    }

    fn subscribe(&mut self, filter: String, reply: Option<Reply>) -> Result<(), ()> {
        let id = self.in_flight.add(Kind::Subscribe(filter.clone()), reply, Instant::now()).ok_or(())?;
        match packet::subscribe(self.version, id, &filter) {
            Ok(bytes) => self.out.extend_from_slice(&bytes),
            // A filter that MQTT cannot carry.
            Err(_) => self.answered(id, Some("it is no topic filter".into())),
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.out.len() < MOST_OUT && self.in_flight.publishes() < self.most
    }

    /// Does what the program asks for. A command that is dropped is refused.
    fn ask(&mut self, command: Command, subscriptions: &mut Subscriptions) {
        match command {
            Command::Subscribe(filter, sink, reply) => {
                // Messages may come before the answer does.
                subscriptions.add(&filter, sink);
                let _ = self.subscribe(filter, Some(reply));
            }
            // Whoever asked has given up meanwhile.
            Command::Publish(_, reply) if reply.is_closed() => {}
            Command::Publish(message, reply) => self.publish(&message, reply),
        }
    }

    fn publish(&mut self, message: &Outgoing, reply: Reply) {
        if message.retain && !self.limits.retain {
            // Nobody may listen any more.
            let _ = reply.send(Err("it keeps no messages".into()));
            return;
        }
        if !self.limits.qos1 {
            let _ = reply.send(self.send(message, None));
            return;
        }
        let Some(id) = self.in_flight.add(Kind::Publish, Some(reply), Instant::now()) else { return };
        if let Err(why) = self.send(message, Some(id)) {
            self.answered(id, Some(why));
        }
    }

    /// Puts a message among what is to be sent, unless the broker takes none such.
    fn send(&mut self, message: &Outgoing, id: Option<u16>) -> Result<(), String> {
        let bytes = packet::publish(self.version, message, id, self.limits.packet);
        self.out.extend_from_slice(&bytes.map_err(|why| why.to_string())?);
        Ok(())
    }

    /// Tells whoever asked what came of it.
    fn answered(&mut self, id: u16, refusal: Option<String>) {
        if let Some(reply) = self.in_flight.take(id).and_then(|waiting| waiting.reply) {
            // Nobody may listen any more.
            let _ = reply.send(refusal.map_or(Ok(()), Err));
        }
    }

    /// Takes bytes that came.
    fn take(&mut self, mut bytes: &[u8], subscriptions: &mut Subscriptions) -> Result<(), String> {
        let broken = |why: &str| format!("the broker does not keep to MQTT ({why})");
        while let Some(frame) = self.frames.take(&mut bytes).map_err(|error| broken(error.as_str()))? {
            match frame {
                Frame::Skipped { id } => self.acknowledge(id),
                Frame::Packet { first, body } => {
                    let packet = packet::read(self.version, first, &body);
                    self.heed(packet.map_err(|fault| broken(&fault.reason().to_string()))?, subscriptions)?;
                }
            }
        }
        Ok(())
    }

    fn heed(&mut self, packet: Packet, subscriptions: &mut Subscriptions) -> Result<(), String> {
        match packet {
            Packet::Message(message, id) => {
                if message.payload.len() <= LONGEST_MESSAGE {
                    subscriptions.deliver(message);
                }
                self.acknowledge(id);
            }
            Packet::PublishAnswer(id, refusal) => self.answered(id, refusal),
            Packet::SubscribeAnswer(id, refusal) => return self.subscribed(id, refusal, subscriptions),
            Packet::Pong => self.pong_by = None,
            Packet::Goodbye(why) => return Err(format!("the broker said goodbye ({why})")),
        }
        Ok(())
    }

    fn subscribed(
        &mut self,
        id: u16,
        refusal: Option<String>,
        subscriptions: &mut Subscriptions,
    ) -> Result<(), String> {
        let Some(waiting) = self.in_flight.take(id) else { return Ok(()) };
        let Kind::Subscribe(filter) = waiting.kind else { return Ok(()) };
        match (waiting.reply, refusal) {
            (Some(reply), refusal) => {
                if refusal.is_some() {
                    subscriptions.remove(&filter);
                }
                let _ = reply.send(refusal.map_or(Ok(()), Err));
                Ok(())
            }
            (None, None) => Ok(()),
            // It was granted before; a program that goes on without it would wait for ever.
            (None, Some(why)) => Err(format!("the broker turned down {filter} ({why})")),
        }
    }

    fn acknowledge(&mut self, id: Option<u16>) {
        if let Some(id) = id {
            self.out.extend_from_slice(&packet::puback(id));
        }
    }

    /// Returns the moment at which there is something to do without any packet.
    fn next_look(&self) -> Instant {
        self.pong_by.map_or(self.ping_at, |by| by.min(self.ping_at))
    }

    /// Pings when it is time, and ends what the broker does not answer.
    fn look(&mut self) -> Result<(), String> {
        let now = Instant::now();
        if self.pong_by.is_some_and(|by| now >= by) {
            return Err("the broker fell silent".into());
        }
        // Its caller has given up long ago; kept for ever, it would take a place that others need.
        if self.in_flight.oldest().is_some_and(|since| now >= since + self.pace.answer * 2) {
            return Err("the broker does not answer a request".into());
        }
        if now >= self.ping_at {
            self.out.extend_from_slice(&packet::PINGREQ);
            self.ping_at = now + self.ping_every;
            self.pong_by.get_or_insert(now + self.pace.answer);
        }
        Ok(())
    }
}
