//! Keeps the device at the broker, and carries reports out and commands in.
//!
//! It waits for the network, which `link.rs` keeps, and looks at its connection every second. Nothing here waits for the
//! worker, and the worker never waits for this: a download goes on while the broker is away, and commands arrive while
//! flash is written.

use core::num::NonZeroU16;
use core::time::Duration;

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_nal_async::{AddrType, Dns as _, TcpConnect};
use otaru_format::topic::Topics;

use crate::backoff::Pauses;
use crate::board::Clock;
use crate::config::Config;
use crate::job::Inbox;
use crate::mqtt::{Answer, Buffers, Connection, Ended, Incoming, Level, QoS, Versions};
use crate::platform::Platform;
use crate::proof::{Echo, InFlight, Overdue};
use crate::report::Reports;
use crate::text;
use crate::timeout::{millis, within};
use crate::uplink::{CHECK, Uplink};

/// Time that mere progress waits after a status report.
const PROGRESS: Duration = Duration::from_secs(1);
/// Time that a command may stay unacknowledged while it is being remembered. It is looked at every [`CHECK`], so the broker waits
/// two seconds at most.
const UNDECIDED: Duration = Duration::from_secs(1);
/// Pause before a report is sent again that the broker refused: its access list or its quota may change.
const REFUSED: Duration = Duration::from_secs(30);
/// Bytes of a status report.
const STATUS: usize = 1024;

/// A command that is not acknowledged yet.
struct Undecided {
    id: NonZeroU16,
    /// Number of the command in the inbox.
    number: u32,
    since: Duration,
}

/// The session's surroundings.
pub(crate) struct Session<'s, P: Platform> {
    pub(crate) net: &'s P::Net,
    pub(crate) clock: &'s P::Clock,
    pub(crate) rng: P::Rng,
    pub(crate) config: &'s Config<'s>,
    pub(crate) topics: Topics<'s>,
    pub(crate) reports: &'s Reports<'s>,
    pub(crate) inbox: &'s Inbox,
    pub(crate) uplink: &'s Uplink,
    pub(crate) versions: Versions,
    /// The last connection ended while the broker was to let the device hear its own reports.
    pub(crate) unwatched: bool,
}

impl<'s, P: Platform> Session<'s, P> {
    /// Runs for ever.
    pub(crate) async fn run(&mut self) -> ! {
        let mut pauses = Pauses::new(self.config.reconnect);
        self.reports.until_ready().await;
        loop {
            let uplink = self.uplink;
            let join = uplink.joined().await;
            // What was connected through the network before it went is no longer worth waiting for.
            let ended = match select(self.connected(&mut pauses), uplink.lost(join)).await {
                Either::First(Err(ended)) => ended,
                Either::Second(()) => {
                    self.versions.learn(Answer::Nothing, self.clock.now());
                    Ended::Network
                }
            };
            self.reports.disconnected();
            let pause = match ended {
                Ended::OtherVersion => Duration::ZERO,
                ended if ended.is_lasting() => self.config.reconnect.longest,
                _ => pauses.pause(&mut self.rng),
            };
            text::warn(format_args!(
                "broker: {ended}; next attempt in {} ms, or when the network comes back",
                millis(pause)
            ));
            // A network that came back may have brought the broker back with it.
            if let Either::Second(()) = select(self.clock.sleep(pause), uplink.joined_again(join)).await {
                pauses.reset();
            }
        }
    }

    /// One connection, from connect to its end.
    async fn connected(&mut self, pauses: &mut Pauses) -> Result<core::convert::Infallible, Ended> {
        let level = self.versions.next(self.clock.now());
        let mut buffers = Buffers::new();
        let opened = self.open(level, &mut buffers).await;
        let answer = opened.as_ref().err().map_or(Answer::Spoken, |ended| ended.answer());
        let at_once = self.versions.learn(answer, self.clock.now());
        let mut connection = opened.map_err(|ended| match ended {
            _ if at_once => Ended::OtherVersion,
            Ended::Closed if self.versions.is_mute() => Ended::TlsPort,
            ended => ended,
        })?;
        self.reports.connected(level == Level::V5);
        connection.publish(&self.topics.online(), b"online", true, QoS::AtMostOnce).await?;
        pauses.reset();
        text::info(format_args!("broker: connected as {}", self.config.device));
        self.talk(&mut connection).await
    }

    async fn open<'b>(
        &self,
        level: Level,
        buffers: &'b mut Buffers,
    ) -> Result<Connection<'b, <P::Net as TcpConnect>::Connection<'s>, P::Clock>, Ended>
    where
        's: 'b,
    {
        let net = self.net;
        let limit = self.config.answer_timeout;
        let host = self.config.broker_host;
        let port = self.config.broker_port;
        let socket = within(self.clock, limit, async {
            let address = net.get_host_by_name(host, AddrType::Either).await.map_err(|_| Ended::Network)?;
            net.connect((address, port).into()).await.map_err(|_| Ended::Network)
        })
        .await
        .map_err(|_| Ended::Silent)??;
        Connection::open(level, socket, buffers, self.config, &self.topics, self.clock).await
    }

    async fn talk<S>(
        &mut self,
        connection: &mut Connection<'_, S, P::Clock>,
    ) -> Result<core::convert::Infallible, Ended>
    where
        S: embedded_io_async::Read + embedded_io_async::Write,
    {
        let idle = Duration::from_millis(millis(self.config.keep_alive) / 2);
        let mut accepted = self.reports.revision().wrapping_sub(1);
        let mut in_flight: Option<InFlight> = None;
        let mut last_sent = self.clock.now();
        let mut last_status = Duration::ZERO;
        let mut ping_since: Option<Duration> = None;
        let mut undecided: Option<Undecided> = None;
        let mut refused: Option<Duration> = None;
        // A broker that closes rather than let a device hear itself is asked every other time.
        let mut echo = if core::mem::take(&mut self.unwatched) { Echo::Denied } else { Echo::Off };
        loop {
            let over = |command: &Undecided, now| {
                // A trial may be rolled back, and what came meanwhile is for the old image then.
                let waited = now >= command.since + UNDECIDED && !self.reports.is_trial();
                self.inbox.is_settled(command.number) || waited
            };
            if let Some(command) = undecided.take_if(|command| over(command, self.clock.now())) {
                connection.acknowledge(command.id).await?;
            }
            while let Some(line) = self.reports.next_line() {
                connection.publish(&self.topics.progress(), line.as_bytes(), false, QoS::AtMostOnce).await?;
                last_sent = self.clock.now();
            }
            // Directly before a report is made, so that none that is to be seen there leaves without.
            let wanted = connection.level() == Level::V311 && self.reports.wants_proof();
            match echo {
                Echo::Off if wanted => {
                    echo = Echo::Asked(self.clock.now());
                    self.unwatched = true;
                    connection.watch(&self.topics.status(), true).await?;
                }
                Echo::Granted if !wanted => {
                    echo = Echo::Off;
                    connection.watch(&self.topics.status(), false).await?;
                    continue;
                }
                _ => {}
            }
            let due = self.reports.presses(accepted)
                || (self.reports.revision() != accepted && self.clock.now() >= last_status + PROGRESS)
                || refused.is_some_and(|since| self.clock.now() >= since + REFUSED);
            if in_flight.is_none() && due && !matches!(echo, Echo::Asked(_)) {
                let mut json = [0; STATUS];
                if let Some((text, revision)) =
                    self.reports.status_json(self.clock.now(), self.uplink.rssi(), &mut json)
                {
                    connection
                        .publish(&self.topics.status(), text.as_bytes(), true, QoS::AtLeastOnce)
                        .await?;
                    last_sent = self.clock.now();
                    last_status = last_sent;
                    in_flight = Some(InFlight::new(revision, text.as_bytes(), echo, last_sent));
                } else {
                    text::error(format_args!("status report does not fit {STATUS} bytes"));
                    accepted = self.reports.revision();
                }
            }
            match select3(connection.header(), self.reports.changed(), self.clock.sleep(CHECK)).await {
                Either3::First(header) => {
                    let (inbox, topics) = (self.inbox, self.topics);
                    let mut echoed = false;
                    let incoming = connection
                        .packet(header?, |topic, payload, origin| {
                            echoed = topics.status() == topic
                                && in_flight.is_some_and(|report| report.is_echo(payload));
                            let command = topics.update_all() == topic || topics.update_one() == topic;
                            command.then(|| inbox.put(payload, origin))
                        })
                        .await?;
                    match incoming {
                        Incoming::Command { id, number } => {
                            let since = self.clock.now();
                            let newest = id.map(|id| Undecided { id, number, since });
                            // The one before is of no use any more.
                            if let Some(older) = core::mem::replace(&mut undecided, newest) {
                                connection.acknowledge(older.id).await?;
                            }
                        }
                        Incoming::Accepted => {
                            let now = self.clock.now();
                            echoed = in_flight.as_mut().is_some_and(|report| report.acknowledge(now));
                        }
                        Incoming::Rejected => {
                            if let Some(report) = in_flight.take() {
                                accepted = report.revision;
                                refused = Some(self.refused());
                            }
                        }
                        Incoming::Watched(granted) => {
                            echo = if granted { Echo::Granted } else { Echo::Denied };
                            self.unwatched = false;
                        }
                        Incoming::Pong => ping_since = None,
                        Incoming::Other => {}
                    }
                    if let Some(report) = in_flight.take_if(|_| echoed) {
                        accepted = report.revision;
                        refused = None;
                        self.reports.set_accepted(accepted, self.clock.now());
                        self.uplink.set_reached();
                    }
                }
                Either3::Second(()) => {}
                Either3::Third(()) => {
                    let now = self.clock.now();
                    let limit = self.config.answer_timeout;
                    if ping_since.is_some_and(|since| now - since > limit) {
                        return Err(Ended::Silent);
                    }
                    match in_flight.and_then(|report| report.overdue(now, limit)) {
                        None => {}
                        Some(Overdue::Silent) => return Err(Ended::Silent),
                        Some(Overdue::Swallowed) => {
                            accepted = in_flight.take().map_or(accepted, |report| report.revision);
                            refused = Some(self.refused());
                        }
                    }
                    if matches!(echo, Echo::Asked(since) if now - since > limit) {
                        echo = Echo::Denied;
                    }
                    if ping_since.is_none() && !idle.is_zero() && now - last_sent >= idle {
                        connection.ping().await?;
                        last_sent = now;
                        ping_since = Some(now);
                    }
                }
            }
        }
    }

    /// The broker does not take reports; the time is when that was seen.
    fn refused(&self) -> Duration {
        text::warn(format_args!("broker: refuses status reports; may this device publish them?"));
        self.clock.now()
    }
}
