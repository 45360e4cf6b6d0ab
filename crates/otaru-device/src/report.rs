//! The device's reports: the current status, and the plain lines a person watches.
//!
//! The worker changes it, the MQTT session publishes it. Progress may be skipped when the broker is slow;
//! a change of state is not: [`Reports::announce`] waits until the broker has it, while there is a broker.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use heapless::{Deque, String};
use otaru_format::command::MAX_DEPLOYMENT;
use otaru_format::digest::Digest;
use otaru_format::status::{Code, Dates, Epoch, FailedImage, Fault, Status, TlsReport, UpdateState};

use crate::board::Clock;
use crate::text;

/// Bytes of error text kept.
pub(crate) const DETAIL: usize = 160;
type Line = String<144>;
/// Time after which reports are refreshed when nothing happens.
const REFRESH: Duration = Duration::from_secs(3600);
/// Lines kept while the broker is slow or away.
const LINES: usize = 6;

/// Place of a start among those of the device, which orders its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Epoch of the memory: random bits, drawn when it was blank.
    pub(crate) epoch: u64,
    /// Number of the start within the epoch, from 1.
    pub(crate) boots: u32,
}

/// Facts that do not change while this boot lasts.
#[derive(Debug, Clone)]
pub(crate) struct Identity<'a> {
    pub(crate) device: &'a str,
    /// CAs that are trusted over TLS.
    pub(crate) trusts: &'a str,
    pub(crate) chip: &'static str,
    pub(crate) project: String<32>,
    pub(crate) product: String<32>,
    pub(crate) version: String<32>,
    pub(crate) image: Digest,
    pub(crate) slot: u8,
    pub(crate) boot: &'static str,
}

/// Memory that was free at the worst moment since the start, in bytes, where that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) heap: Option<u32>,
    pub(crate) stack: Option<u32>,
}

#[derive(Debug)]
struct Current {
    state: UpdateState,
    confirmed: bool,
    /// Something waits for the broker to have a report beyond doubt.
    proving: bool,
    progress: Option<u8>,
    attempt: u8,
    deployment: String<MAX_DEPLOYMENT>,
    error: Option<(Code, String<DETAIL>)>,
    failed: Option<(String<32>, Digest, u8)>,
    guards_lost: bool,
    left_tls: bool,
    room: Room,
    /// Time at which the present room was first reported, or was due to be.
    room_told: Duration,
    revision: u32,
    /// The revision of the last change that is more than a few per cent of progress.
    pressing: u32,
}

/// The reports on their way from the worker to the session.
pub(crate) struct Reports<'a> {
    identity: Identity<'a>,
    start: Start,
    /// Reports that were made.
    count: Cell<u32>,
    current: RefCell<Current>,
    lines: RefCell<Deque<Line, LINES>>,
    changed: Signal<NoopRawMutex, ()>,
    accepted: Signal<NoopRawMutex, ()>,
    /// The newest revision that the broker has taken on the present connection.
    accepted_revision: Cell<Option<u32>>,
    /// Since when it takes them on the present connection, by the clock.
    accepted_since: Cell<Option<Duration>>,
    /// Whether an acknowledgement of the present connection says for sure that the broker took a report.
    acks_are_sure: Cell<bool>,
    /// Check of dates on the present connection, or the last, if it goes over TLS.
    dates: Cell<Option<Dates>>,
    /// Whether it is still to be found out what there is to report.
    unsure: Cell<bool>,
}

impl<'a> Reports<'a> {
    /// `unsure` says that nothing is to be reported before [`Reports::mark_ready`].
    pub(crate) fn new(identity: Identity<'a>, start: Start, unsure: bool) -> Self {
        Self {
            identity,
            start,
            count: Cell::new(0),
            current: RefCell::new(Current {
                state: UpdateState::Idle,
                confirmed: true,
                proving: false,
                progress: None,
                attempt: 0,
                deployment: String::new(),
                error: None,
                failed: None,
                guards_lost: false,
                left_tls: false,
                room: Room::default(),
                room_told: Duration::ZERO,
                revision: 1,
                pressing: 1,
            }),
            lines: RefCell::new(Deque::new()),
            changed: Signal::new(),
            accepted: Signal::new(),
            accepted_revision: Cell::new(None),
            accepted_since: Cell::new(None),
            acks_are_sure: Cell::new(true),
            dates: Cell::new(None),
            unsure: Cell::new(unsure),
        }
    }

    /// Notes that what there is to report is known.
    pub(crate) fn mark_ready(&self) {
        self.unsure.set(false);
        self.changed.signal(());
    }

    /// Waits for that.
    pub(crate) async fn until_ready(&self) {
        while self.unsure.get() {
            self.changed.wait().await;
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Current)) {
        let mut current = self.current.borrow_mut();
        current.revision = current.revision.wrapping_add(1);
        current.pressing = current.revision;
        edit(&mut current);
        self.changed.signal(());
    }

    /// A new command begins: what the last one left is forgotten.
    pub(crate) fn begin(&self, deployment: Option<&str>) {
        self.change(|c| {
            c.deployment = String::try_from(deployment.unwrap_or("")).unwrap_or_default();
            c.error = None;
            c.failed = None;
            c.left_tls = false;
            c.progress = None;
            c.attempt = 1;
            c.proving = false;
            c.state = UpdateState::Checking;
        });
    }

    pub(crate) fn state(&self, state: UpdateState) {
        self.change(|c| {
            c.state = state;
            c.proving = false;
            // The image that ran on trial stays, whatever failed on the way there.
            if state == UpdateState::Confirmed {
                c.confirmed = true;
                c.error = None;
            }
            c.progress = if state == UpdateState::Downloading { c.progress.or(Some(0)) } else { None };
            if !matches!(state, UpdateState::Checking | UpdateState::Downloading | UpdateState::Retrying) {
                c.attempt = 0;
            }
        });
    }

    /// The image that runs is on trial.
    pub(crate) fn on_trial(&self) {
        self.change(|c| c.confirmed = false);
    }

    pub(crate) fn fault(&self, state: UpdateState, code: Code, detail: &str) {
        self.state(state);
        self.change(|c| {
            c.error = Some((code, text::cut(detail)));
        });
        self.line(format_args!("ERROR: {code}: {detail}"));
    }

    /// Takes note of how much memory is left. It goes with the next report, and once an hour makes one due.
    pub(crate) fn measured(&self, now: Duration, room: Room) {
        let mut current = self.current.borrow_mut();
        current.room = room;
        if now.saturating_sub(current.room_told) < REFRESH || room == Room::default() {
            return;
        }
        current.room_told = now;
        drop(current);
        self.change(|_| {});
    }

    pub(crate) fn attempt(&self, attempt: u8) {
        self.change(|c| c.attempt = attempt);
    }

    /// The download was redirected from `https://` to `http://`.
    pub(crate) fn left_tls(&self) {
        if !self.current.borrow().left_tls {
            self.change(|c| c.left_tls = true);
            self.line(format_args!("redirected from https:// to http://; the firmware itself is verified"));
        }
    }

    pub(crate) fn failed_image(&self, version: String<32>, image: Digest, boots: u8) {
        self.change(|c| c.failed = Some((version, image, boots)));
    }

    /// Progress in per cent; every tenth becomes a line.
    pub(crate) fn progress(&self, percent: u8) {
        let (last, state, pressing) = {
            let current = self.current.borrow();
            (current.progress, current.state, current.pressing)
        };
        if last == Some(percent) {
            return;
        }
        self.change(|c| {
            c.progress = Some(percent);
            c.state = UpdateState::Downloading;
            c.error = None;
            if state == UpdateState::Downloading && percent < 100 {
                c.pressing = pressing;
            }
        });
        if last.is_none_or(|last| last / 10 != percent / 10) {
            self.line(format_args!("OTA Progress: {}%", percent / 10 * 10));
        }
    }

    /// Logs a plain line and queues it; the oldest gives way when the broker is away for long.
    pub(crate) fn line(&self, text: core::fmt::Arguments<'_>) {
        // Whoever has the device on a cable sees the same.
        text::info(format_args!("update: {text}"));
        let line = text::format(text);
        let mut lines = self.lines.borrow_mut();
        if lines.is_full() {
            let _ = lines.pop_front();
        }
        let _ = lines.push_back(line);
        self.changed.signal(());
    }

    /// Waits until the broker has accepted the present state, for as long as there is a broker.
    /// Gives up after `limit`; says whether it was accepted.
    pub(crate) async fn announce<C: Clock>(&self, clock: &C, limit: Duration) -> bool {
        let wanted = self.current.borrow().revision;
        let deadline = clock.now() + limit;
        while !self.has_accepted(wanted) {
            let left = deadline.saturating_sub(clock.now());
            if left.is_zero() {
                return false;
            }
            select(self.accepted.wait(), clock.sleep(left)).await;
        }
        true
    }

    /// Waits until the broker has accepted the present state on the connection there is, however long that takes.
    pub(crate) async fn until_accepted(&self) {
        let wanted = self.current.borrow().revision;
        while !self.has_accepted(wanted) {
            self.accepted.wait().await;
        }
    }

    fn has_accepted(&self, wanted: u32) -> bool {
        self.accepted_revision.get().is_some_and(|accepted| accepted.wrapping_sub(wanted) < u32::MAX / 2)
    }

    /// Since when the broker has been taking reports without an interruption, by the clock.
    pub(crate) fn accepted_since(&self) -> Option<Duration> {
        self.accepted_since.get()
    }

    /// Notes whether the guards against older releases are lost.
    pub(crate) fn guards_lost(&self, lost: bool) {
        if self.current.borrow().guards_lost != lost {
            self.change(|c| c.guards_lost = lost);
        }
    }

    /// From now on, and until the state changes, only a report that the broker took beyond doubt counts as accepted. MQTT 3.1.1
    /// acknowledges what it throws away as well.
    pub(crate) fn prove(&self) {
        let mut current = self.current.borrow_mut();
        current.proving = true;
        if !self.acks_are_sure.get() {
            // What was accepted before may have been thrown away.
            current.revision = current.revision.wrapping_add(1);
            current.pressing = current.revision;
            self.accepted_since.set(None);
        }
    }

    /// Whether the running image is on trial.
    pub(crate) fn is_trial(&self) -> bool {
        !self.current.borrow().confirmed
    }

    /// Lets the session look whether there is something to do.
    pub(crate) fn wake(&self) {
        self.changed.signal(());
    }

    // What the session uses.

    /// Whether a report is to be seen at the broker, and not only acknowledged.
    pub(crate) fn wants_proof(&self) -> bool {
        let current = self.current.borrow();
        current.proving || !current.confirmed
    }

    /// Notes whether acknowledgements of the present connection tell what was refused, and how dates were checked, if it goes
    /// over TLS.
    pub(crate) fn connected(&self, acks_are_sure: bool, dates: Option<Dates>) {
        self.acks_are_sure.set(acks_are_sure);
        self.dates.set(dates);
    }

    pub(crate) fn disconnected(&self) {
        self.accepted_revision.set(None);
        self.accepted_since.set(None);
    }

    pub(crate) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.wait()
    }

    pub(crate) fn next_line(&self) -> Option<Line> {
        self.lines.borrow_mut().pop_front()
    }

    /// Whether anything but a few per cent of progress has changed since `revision`.
    pub(crate) fn presses(&self, revision: u32) -> bool {
        let since = self.current.borrow().pressing.wrapping_sub(revision);
        since != 0 && since < u32::MAX / 2
    }

    pub(crate) fn revision(&self) -> u32 {
        self.current.borrow().revision
    }

    pub(crate) fn set_accepted(&self, revision: u32, now: Duration) {
        self.accepted_revision.set(Some(revision));
        self.accepted_since.set(self.accepted_since.get().or(Some(now)));
        self.accepted.signal(());
    }

    /// Returns the next report as JSON, and the revision it shows. `order` is the highest that was followed. Where it is too
    /// long for `buf`, as by quoting, the error's sentence is cut; `None` when it does not fit without that either.
    pub(crate) fn next_json<'b>(
        &self,
        uptime: Duration,
        rssi: Option<i8>,
        order: u64,
        buf: &'b mut [u8],
    ) -> Option<(&'b str, u32)> {
        let current = self.current.borrow();
        let n = self.count.get().wrapping_add(1);
        self.count.set(n);
        let mut status = Status::<&str> {
            device: self.identity.device,
            chip: self.identity.chip,
            state: current.state,
            project: &self.identity.project,
            product: Some(&self.identity.product),
            version: &self.identity.version,
            image: self.identity.image,
            slot: self.identity.slot,
            confirmed: current.confirmed,
            progress: current.progress,
            attempt: current.attempt,
            deployment: (!current.deployment.is_empty()).then_some(current.deployment.as_str()),
            error: current
                .error
                .as_ref()
                .map(|(code, detail)| Fault { code: *code, detail: detail.as_str() }),
            failed: current.failed.as_ref().map(|(version, image, boots)| FailedImage {
                version: version.as_str(),
                image: *image,
                boots: *boots,
            }),
            guards_lost: current.guards_lost,
            left_tls: current.left_tls,
            tls: self.dates.get().map(|dates| TlsReport { trusts: self.identity.trusts, dates }),
            boot: self.identity.boot,
            uptime: u32::try_from(uptime.as_secs()).unwrap_or(u32::MAX),
            rssi,
            free_heap: current.room.heap,
            free_stack: current.room.stack,
            order: Some(order).filter(|order| *order != 0),
            epoch: Some(Epoch(self.start.epoch)),
            boots: Some(self.start.boots),
            n: Some(n),
        };
        while status.to_json(buf).is_none() {
            let detail = &mut status.error.as_mut().filter(|error| !error.detail.is_empty())?.detail;
            *detail = &detail[..detail.floor_char_boundary(detail.len() / 2)];
        }
        Some((status.to_json(buf)?, current.revision))
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use otaru_format::status::CaIds;

    use super::*;

    fn reports<'a>() -> Reports<'a> {
        let text = |text| text::cut(text);
        let identity = Identity {
            device: "a-device-with-a-name-of-32-bytes",
            trusts: "",
            chip: "esp32c3",
            project: text("a-project-with-a-name-of-32-byte"),
            product: String::new(),
            version: text("1.0.0+a-version-that-is-as-long-"),
            image: Digest::ZERO,
            slot: 1,
            boot: "power_on",
        };
        Reports::new(identity, Start { epoch: u64::MAX, boots: u32::MAX }, false)
    }

    #[test]
    fn a_line_that_does_not_fit_is_cut() {
        let reports = reports();
        let sentence = "x".repeat(200);
        reports.fault(UpdateState::Failed, Code::FailedBefore, &sentence);
        let line = reports.next_line().unwrap();
        assert!(line.starts_with("ERROR: failed_before: xxxxx"), "{line}");
        assert_eq!(line.len(), line.capacity());
        let mut buf = [0; 1024];
        let (json, _) = reports.next_json(Duration::ZERO, None, u64::MAX, &mut buf).unwrap();
        assert!(json.contains(&sentence[..DETAIL]), "{json}");
    }

    #[test]
    fn a_report_that_quoting_makes_too_long_is_cut_and_not_dropped() {
        let reports = reports();
        reports.begin(Some(&"\u{1}".repeat(MAX_DEPLOYMENT)));
        reports.fault(UpdateState::Failed, Code::Panic, &"\u{1}".repeat(200));
        let mut buf = [0; 1024];
        let (json, _) = reports.next_json(Duration::ZERO, None, u64::MAX, &mut buf).unwrap();
        assert!(json.contains(r#""code":"panic","detail":"\u0001"#), "{json}");
        // Where not even a short one fits, there is none.
        assert!(reports.next_json(Duration::ZERO, None, 0, &mut [0; 300]).is_none());
    }

    #[test]
    fn the_longest_report_has_room_for_its_tls() {
        let cas = CaIds::of([&b"ca"[..]; CaIds::MOST]);
        let mut reports = reports();
        reports.identity.trusts = cas.as_str();
        reports.identity.product = text::cut("a-product-with-a-name-of-32-byte");
        reports.connected(true, Some(Dates::ClockUnknown));
        reports.begin(Some(&"d".repeat(MAX_DEPLOYMENT)));
        reports.failed_image(text::cut("1.1.0+a-version-that-is-as-long-"), Digest::ZERO, 255);
        reports.fault(UpdateState::RolledBack, Code::Panic, &"x".repeat(200));
        reports.guards_lost(true);
        reports.left_tls();
        let room = Room { heap: Some(u32::MAX), stack: Some(u32::MAX) };
        reports.measured(Duration::ZERO, room);
        let mut buf = [0; 1024];
        let longest = Duration::from_secs(u64::MAX);
        let (json, _) = reports.next_json(longest, Some(-128), u64::MAX, &mut buf).unwrap();
        assert!(
            json.contains(&format!(r#""tls":{{"trusts":"{}","dates":"clock_unknown"}}"#, cas.as_str())),
            "{json}"
        );
        assert!(json.contains(&"x".repeat(DETAIL / 2)), "half of the sentence at the least: {json}");
    }

    #[test]
    fn reports_are_numbered_as_they_are_made() {
        let reports = reports();
        for n in 1..4 {
            let mut buf = [0; 1024];
            let (json, _) = reports.next_json(Duration::ZERO, None, 0, &mut buf).unwrap();
            let end = std::format!(r#""epoch":"ffffffffffffffff","boots":4294967295,"n":{n}}}"#);
            assert!(json.ends_with(&end), "{json}");
            assert!(!json.contains("order"), "none was followed: {json}");
        }
    }

    #[test]
    fn the_room_that_is_left_makes_a_report_due_once_an_hour() {
        let reports = reports();
        let room = Room { heap: Some(4096), stack: Some(1024) };
        let before = reports.revision();
        reports.measured(Duration::from_secs(10), room);
        assert!(!reports.presses(before));
        let mut buf = [0; 1024];
        let (json, _) = reports.next_json(Duration::ZERO, None, u64::MAX, &mut buf).unwrap();
        assert!(json.contains(r#""free_heap":4096,"free_stack":1024"#), "{json}");
        reports.measured(Duration::from_secs(3601), room);
        assert!(reports.presses(before));
        let before = reports.revision();
        reports.measured(Duration::from_secs(7200), room);
        assert!(!reports.presses(before));
        reports.measured(Duration::from_secs(7201), room);
        assert!(reports.presses(before));
    }
}
