//! Keeps the device at the broker, and carries reports out and commands in.
//!
//! It waits for the network, which `link.rs` keeps, and looks at its connection every second. Nothing here waits for the
//! worker, and the worker never waits for this: a download goes on while the broker is away, and commands arrive while
//! flash is written.

use core::num::NonZeroU16;
use core::time::Duration;

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_nal_async::{AddrType, Dns as _, TcpConnect as _};
use otaru_format::topic::Topics;

use crate::backoff::Pauses;
use crate::board::Clock;
use crate::config::Config;
use crate::job::Inbox;
use crate::mqtt::{Buffers, Connection, Ended, Incoming, QoS};
use crate::platform::Platform;
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
}

impl<P: Platform> Session<'_, P> {
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
                Either::Second(()) => Ended::Network,
            };
            self.reports.disconnected();
            let pause = match ended.is_lasting() {
                true => self.config.reconnect.longest,
                false => pauses.pause(&mut self.rng),
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
        let limit = self.config.answer_timeout;
        let host = self.config.broker_host;
        let port = self.config.broker_port;
        let socket = within(self.clock, limit, async {
            let address =
                self.net.get_host_by_name(host, AddrType::Either).await.map_err(|_| Ended::Network)?;
            self.net.connect((address, port).into()).await.map_err(|_| Ended::Network)
        })
        .await
        .map_err(|_| Ended::Silent)??;

        let mut buffers = Buffers::new();
        let mut connection =
            Connection::open(socket, &mut buffers, self.config, &self.topics, self.clock).await?;
        connection.publish(&self.topics.online(), b"online", true, QoS::AtMostOnce).await?;
        pauses.reset();
        text::info(format_args!("broker: connected as {}", self.config.device));
        self.talk(&mut connection).await
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
        let mut in_flight: Option<(u32, Duration)> = None;
        let mut last_sent = self.clock.now();
        let mut last_status = Duration::ZERO;
        let mut ping_since: Option<Duration> = None;
        let mut undecided: Option<Undecided> = None;
        let mut refused: Option<Duration> = None;
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
            let due = self.reports.presses(accepted)
                || (self.reports.revision() != accepted && self.clock.now() >= last_status + PROGRESS)
                || refused.is_some_and(|since| self.clock.now() >= since + REFUSED);
            if in_flight.is_none() && due {
                let mut json = [0; STATUS];
                if let Some((text, revision)) =
                    self.reports.status_json(self.clock.now(), self.uplink.rssi(), &mut json)
                {
                    connection
                        .publish(&self.topics.status(), text.as_bytes(), true, QoS::AtLeastOnce)
                        .await?;
                    last_sent = self.clock.now();
                    last_status = last_sent;
                    in_flight = Some((revision, last_sent));
                } else {
                    text::error(format_args!("status report does not fit {STATUS} bytes"));
                    accepted = self.reports.revision();
                }
            }
            match select3(connection.header(), self.reports.changed(), self.clock.sleep(CHECK)).await {
                Either3::First(header) => {
                    let (inbox, topics) = (self.inbox, self.topics);
                    let incoming = connection
                        .packet(header?, |topic, payload, origin| {
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
                            if let Some((revision, _)) = in_flight.take() {
                                accepted = revision;
                                refused = None;
                                self.reports.set_accepted(revision, self.clock.now());
                                self.uplink.set_reached();
                            }
                        }
                        Incoming::Rejected => {
                            if let Some((revision, _)) = in_flight.take() {
                                text::warn(format_args!(
                                    "broker: refuses status reports; may this device publish them?"
                                ));
                                accepted = revision;
                                refused = Some(self.clock.now());
                            }
                        }
                        Incoming::Pong => ping_since = None,
                        Incoming::Other => {}
                    }
                }
                Either3::Second(()) => {}
                Either3::Third(()) => {
                    let now = self.clock.now();
                    let waits = [ping_since, in_flight.map(|(_, since)| since)];
                    if waits.into_iter().flatten().any(|since| now - since > self.config.answer_timeout) {
                        return Err(Ended::Silent);
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
}
