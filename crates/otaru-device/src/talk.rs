//! One connection to the broker, once it is open: what is sent next, and what follows from what arrives.
//!
//! Nothing here waits: `session.rs` sends what is next and reads what comes. Each kind of packet with an await of its own would take its
//! code each time.

use core::num::NonZeroU16;
use core::time::Duration;

use otaru_format::command::{Command, SCRATCH};
use otaru_format::mqtt::Version;
use otaru_format::topic::Topics;
use rand_core::RngCore;

use crate::board::Clock;
use crate::config::Config;
use crate::history::Origin;
use crate::job::Inbox;
use crate::mqtt::{Connection, ECHOED, Ended, Incoming, QoS};
use crate::proof::{Echo, InFlight, Overdue};
use crate::report::Reports;
use crate::request::Requests;
use crate::text;
use crate::timeout::{millis, passed};
use crate::uplink::Uplink;

/// Time that mere progress waits after a status report.
const PROGRESS: Duration = Duration::from_secs(1);
/// Time that a command may stay unacknowledged while it is being remembered. It is looked at every second, so the broker waits
/// two seconds at most.
const UNDECIDED: Duration = Duration::from_secs(1);
/// Pause before a report is sent again that the broker refused: its access list or its quota may change.
const REFUSED: Duration = Duration::from_secs(30);
/// Bytes of a status report.
pub(crate) const STATUS: usize = 1024;
// A report that is to come back can be told by its bytes, since all of them are read.
const _: () = assert!(STATUS <= ECHOED);

/// A command that is not acknowledged yet.
struct Undecided {
    id: NonZeroU16,
    /// Number of the command in the inbox.
    number: u32,
    since: Duration,
}

/// Parts of the agent that a session carries messages between.
pub(crate) struct Ends<'s, C> {
    pub(crate) clock: &'s C,
    pub(crate) config: &'s Config<'s>,
    pub(crate) topics: Topics<'s>,
    pub(crate) reports: &'s Reports<'s>,
    pub(crate) inbox: &'s Inbox,
    pub(crate) uplink: &'s Uplink,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    requests: Requests,
    /// The last connection ended while the broker was to let the device hear its own reports.
    unwatched: bool,
}

/// State of a connection.
pub(crate) struct Talk<'t, C> {
    ends: &'t Ends<'t, C>,
    carried: &'t mut Carried,
    /// Packets that begin it and were sent.
    begun: u8,
    accepted: u32,
    in_flight: Option<InFlight>,
    last_sent: Duration,
    last_status: Option<Duration>,
    ping_since: Option<Duration>,
    undecided: Option<Undecided>,
    /// The message that is to be acknowledged now.
    settled: Option<NonZeroU16>,
    refused: Option<Duration>,
    echo: Echo,
}

impl<'t, C: Clock> Talk<'t, C> {
    /// A connection that was opened just now.
    pub(crate) fn new(ends: &'t Ends<'t, C>, carried: &'t mut Carried, now: Duration) -> Self {
        // A broker that closes rather than let a device hear itself is asked every other time.
        let echo = if core::mem::take(&mut carried.unwatched) { Echo::Denied } else { Echo::Off };
        Self {
            ends,
            carried,
            begun: 0,
            accepted: ends.reports.revision().wrapping_sub(1),
            in_flight: None,
            last_sent: now,
            last_status: Some(Duration::ZERO),
            ping_since: None,
            undecided: None,
            settled: None,
            refused: None,
            echo,
        }
    }

    /// Makes the next packet ready, if there is one to be sent; gives back the length of its payload, which is in `text`.
    pub(crate) fn next<S>(
        &mut self,
        connection: &mut Connection<'_, S, C>,
        text: &mut [u8; STATUS],
        now: Duration,
    ) -> Result<Option<usize>, Ended>
    where
        S: embedded_io_async::Read + embedded_io_async::Write,
    {
        let ends = self.ends;
        let topics = &ends.topics;
        self.settle(now);
        let len = if self.begun < 3 {
            self.begun += 1;
            match self.begun {
                1 => connection.put_subscription(&topics.update_all(), true, false).map(|()| 0)?,
                2 => connection.put_subscription(&topics.update_one(), true, false).map(|()| 0)?,
                _ => {
                    let len = copy(b"online", text);
                    connection.put_message(&topics.online(), len, true, QoS::AtMostOnce)?;
                    len
                }
            }
        } else if let Some(id) = self.settled.take() {
            connection.put_acknowledgement(id);
            0
        } else if let Some(line) = ends.reports.next_line() {
            let len = copy(line.as_bytes(), text);
            connection.put_message(&topics.progress(), len, false, QoS::AtMostOnce)?;
            len
        } else if let Some(wanted) = self.watch(connection.level(), now) {
            connection.put_subscription(&topics.status(), wanted, true)?;
            0
        } else if let Some(len) = self.report(now, text) {
            connection.put_message(&topics.status(), len, true, QoS::AtLeastOnce)?;
            len
        } else if self.pings(now) {
            connection.put_ping();
            0
        } else {
            return Ok(None);
        };
        self.last_sent = now;
        Ok(Some(len))
    }

    /// Chooses the command that need not wait for its acknowledgement any longer.
    fn settle(&mut self, now: Duration) {
        let Ends { inbox, reports, .. } = self.ends;
        let over = |command: &mut Undecided| {
            // A trial may be rolled back, and what came meanwhile is for the old image then.
            let waited = passed(Some(command.since), UNDECIDED, now) && !reports.is_trial();
            inbox.is_settled(command.number) || waited
        };
        if self.settled.is_none() {
            self.settled = self.undecided.take_if(over).map(|command| command.id);
        }
    }

    /// Whether to begin or to end hearing the device's own reports. Asked right before a report is made, so that none leaves without
    /// that is to be heard.
    fn watch(&mut self, level: Version, now: Duration) -> Option<bool> {
        let wanted = level == Version::V311 && self.ends.reports.wants_proof();
        match self.echo {
            Echo::Off if wanted => {
                self.echo = Echo::Asked(now);
                self.carried.unwatched = true;
                Some(true)
            }
            Echo::Granted if !wanted => {
                self.echo = Echo::Off;
                Some(false)
            }
            _ => None,
        }
    }

    /// Puts the next report into `text`, if one is due; gives back its length.
    fn report(&mut self, now: Duration, text: &mut [u8; STATUS]) -> Option<usize> {
        let Ends { reports, inbox, uplink, .. } = self.ends;
        let is_due = reports.presses(self.accepted)
            || (reports.revision() != self.accepted && passed(self.last_status, PROGRESS, now))
            || passed(self.refused, REFUSED, now)
            || self.carried.requests.is_due(now);
        if !is_due || self.in_flight.is_some() || matches!(self.echo, Echo::Asked(_)) {
            return None;
        }
        self.carried.requests.answer(now);
        let order = inbox.history.borrow().order;
        let Some((json, revision)) = reports.next_json(now, uplink.rssi(), order, text) else {
            text::error(format_args!("status report does not fit {STATUS} bytes"));
            self.accepted = reports.revision();
            return None;
        };
        self.last_status = Some(now);
        self.in_flight = Some(InFlight::new(revision, json.as_bytes(), self.echo, now));
        Some(json.len())
    }

    /// Whether a ping is due. Half of the keep-alive without a packet makes one.
    fn pings(&mut self, now: Duration) -> bool {
        let idle = Duration::from_millis(millis(self.ends.config.keep_alive) / 2);
        let is_due = self.ping_since.is_none() && !idle.is_zero() && passed(Some(self.last_sent), idle, now);
        if is_due {
            self.ping_since = Some(now);
        }
        is_due
    }

    /// Takes a message; gives back the number of one that is a command.
    pub(crate) fn hear(
        &mut self,
        topic: &str,
        payload: &[u8],
        origin: Origin,
        rng: &mut impl RngCore,
        now: Duration,
    ) -> Option<u32> {
        let Ends { inbox, topics, .. } = self.ends;
        if topics.status() == topic && self.in_flight.is_some_and(|report| report.is_echo(payload)) {
            self.accept(now);
        }
        if topics.update_all() != topic && topics.update_one() != topic {
            return None;
        }
        // Not into the inbox, where it would take a command's place.
        if let Ok(Command::Report(request)) = Command::parse(payload, &mut [0; SCRATCH]) {
            if !origin.is_copy() {
                self.carried.requests.ask(request, rng.next_u32(), now);
            }
            return None;
        }
        Some(inbox.put(payload, origin))
    }

    /// Takes what else a packet says.
    pub(crate) fn take(&mut self, incoming: Incoming, now: Duration) {
        match incoming {
            Incoming::Command { id, number } => {
                let newest = id.map(|id| Undecided { id, number, since: now });
                // The one before is of no use any more.
                let older = core::mem::replace(&mut self.undecided, newest);
                self.settled = older.map(|command| command.id);
            }
            Incoming::Accepted => {
                if self.in_flight.as_mut().is_some_and(|report| report.acknowledge(now)) {
                    self.accept(now);
                }
            }
            Incoming::Rejected => self.reject(now),
            Incoming::Watched(granted) => {
                self.echo = if granted { Echo::Granted } else { Echo::Denied };
                self.carried.unwatched = false;
            }
            Incoming::Pong => self.ping_since = None,
            Incoming::Other { id } => self.settled = id,
        }
    }

    /// Looks whether the broker still answers.
    pub(crate) fn check(&mut self, now: Duration) -> Result<(), Ended> {
        let limit = self.ends.config.answer_timeout;
        if passed(self.ping_since, limit, now) {
            return Err(Ended::Silent);
        }
        match self.in_flight.and_then(|report| report.overdue(now, limit)) {
            None => {}
            Some(Overdue::Silent) => return Err(Ended::Silent),
            Some(Overdue::Swallowed) => self.reject(now),
        }
        if matches!(self.echo, Echo::Asked(since) if passed(Some(since), limit, now)) {
            self.echo = Echo::Denied;
        }
        Ok(())
    }

    /// The broker has the report that is in flight.
    fn accept(&mut self, now: Duration) {
        if let Some(report) = self.in_flight.take() {
            self.accepted = report.revision;
            self.refused = None;
            self.ends.reports.set_accepted(report.revision, now);
            self.ends.uplink.set_reached();
        }
    }

    /// The broker does not take it.
    fn reject(&mut self, now: Duration) {
        if let Some(report) = self.in_flight.take() {
            text::warn(format_args!("broker: refuses status reports; may this device publish them?"));
            self.accepted = report.revision;
            self.refused = Some(now);
        }
    }
}

/// Copies bytes to the start of `text`, as far as there is room; gives back how many.
fn copy(bytes: &[u8], text: &mut [u8]) -> usize {
    text.iter_mut().zip(bytes).map(|(place, byte)| *place = *byte).count()
}
