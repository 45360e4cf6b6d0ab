//! Messages of devices that nobody has taken in yet: of each device its newest only, and each device in turn.
//!
//! Of one device there wait at most its newest progress, its newest verdict, and whether it is there; so however much one says, the others
//! wait for a message of it, not for all of them. A verdict, a report that ends an update or tells an error, is replaced by a later
//! verdict only, and no report by an older one: their numbers tell, and where these do not, a copy that the broker kept gives way to what
//! was heard live. Messages of a device are taken in the order in which they came, one after the other, and not faster than [`Pace`] lets.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use otaru_format::status::Status;
use otaru_rollout::DeviceId;

/// Messages of one device that are taken in as fast as they come; more wait for [`REFILL`] each.
const BURST: u32 = 32;
/// Time until one more message of a device may be taken in.
const REFILL: Duration = Duration::from_millis(250);
/// Bytes that may wait, of all devices together.
const MOST: usize = 64 << 20;
/// Bytes that a message costs besides its text.
const OVERHEAD: usize = 512;
/// Devices without a message that are remembered before those are looked for that may be forgotten.
const SWEEP: usize = 1_024;

/// A message of a device.
#[derive(Debug, Clone)]
pub(super) enum DeviceMessage {
    /// A report. A `live` one was not kept by the broker.
    Report { report: Box<Status<String>>, live: bool },
    /// Whether it is there. `anew` says that it has just connected, or gone; else the broker had kept that.
    Presence { online: bool, anew: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Progress,
    Verdict,
    Presence,
}

impl DeviceMessage {
    fn kind(&self) -> Kind {
        match self {
            Self::Report { report, .. } if report.state.is_final() || report.error.is_some() => Kind::Verdict,
            Self::Report { .. } => Kind::Progress,
            Self::Presence { .. } => Kind::Presence,
        }
    }

    /// Whether this may take the place of another of its kind. What came later may, unless it is an older report, or a copy that the
    /// broker kept of one that cannot be told to be newer than what was heard live.
    fn replaces(&self, waiting: &Self) -> bool {
        let (Self::Report { report, live }, Self::Report { report: waiting, live: was_live }) =
            (self, waiting)
        else {
            return true;
        };
        let in_order = match (report.number(), waiting.number()) {
            (Some(new), Some(old)) if new.epoch == old.epoch => new.place().cmp(&old.place()),
            _ => Ordering::Equal,
        };
        in_order.then_with(|| live.cmp(was_live)).is_ge()
    }
}

#[derive(Debug)]
struct Waiting {
    said: DeviceMessage,
    bytes: usize,
    since: Instant,
}

/// Rate at which a device's messages are taken in.
#[derive(Debug)]
struct Pace {
    left: u32,
    filled: Instant,
}

impl Pace {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(BURST);
        self.filled = if self.left == BURST { now } else { self.filled + REFILL * more };
    }
}

#[derive(Debug)]
struct Slot {
    waiting: VecDeque<Waiting>,
    pace: Pace,
    /// Whether one of its messages is being taken in.
    at_work: bool,
    /// Whether it is among those that are ready, or are so later.
    queued: bool,
}

impl Slot {
    /// One of a device of which nothing was heard.
    fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            pace: Pace { left: BURST, filled: now },
            at_work: false,
            queued: false,
        }
    }
}

/// The next thing to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Take this in, then say that it is [done](Mailbox::done).
    Take(DeviceId, DeviceMessage),
    /// Nothing now; at this moment there may be something without anything new.
    Nothing(Option<Instant>),
}

/// Messages by device.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    slots: HashMap<DeviceId, Slot>,
    /// Devices whose turn it is, in order.
    ready: VecDeque<DeviceId>,
    /// Devices that said so much that they have to wait.
    later: BTreeSet<(Instant, DeviceId)>,
    bytes: usize,
    missed: u64,
    /// Slots when they were last swept.
    swept: usize,
}

impl Mailbox {
    /// Puts in what a device says, `bytes` long.
    pub(super) fn put(&mut self, device: DeviceId, said: DeviceMessage, bytes: usize, now: Instant) {
        let (kind, bytes) = (said.kind(), bytes + OVERHEAD);
        let slot = self.slots.entry(device.clone()).or_insert_with(|| Slot::new(now));
        let older = slot.waiting.iter().position(|waiting| waiting.said.kind() == kind);
        let waiting = older.and_then(|place| slot.waiting.get(place));
        if waiting.is_some_and(|waiting| !said.replaces(&waiting.said)) {
            return;
        }
        let older = older.and_then(|place| slot.waiting.remove(place));
        self.bytes -= older.as_ref().map_or(0, |waiting| waiting.bytes);
        if self.bytes + bytes > MOST {
            self.missed += 1;
            return;
        }
        let said = match (said, older.map(|waiting| waiting.said)) {
            // That it connected is not forgotten because it says once more that it is there, and that it was heard to go not because the broker
            // has kept it, too.
            (
                DeviceMessage::Presence { online, anew },
                Some(DeviceMessage::Presence { online: was, anew: before }),
            ) => DeviceMessage::Presence { online, anew: anew || (before && (online || !was)) },
            (said, _) => said,
        };
        slot.waiting.push_back(Waiting { said, bytes, since: now });
        self.bytes += bytes;
        self.queue(device, now);
        self.sweep(now);
    }

    /// Lets a device wait for its turn, if it has something and does not wait yet.
    fn queue(&mut self, device: DeviceId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&device) else { return };
        if slot.queued || slot.at_work || slot.waiting.is_empty() {
            return;
        }
        slot.queued = true;
        slot.pace.fill(now);
        match slot.pace.left {
            0 => drop(self.later.insert((slot.pace.filled + REFILL, device))),
            _ => self.ready.push_back(device),
        }
    }

    /// The next message.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, device)) = self.later.pop_first() else { break };
            self.ready.push_back(device);
        }
        while let Some(device) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&device) else { continue };
            slot.queued = false;
            // What waited may have been replaced by what found no room.
            let Some(Waiting { said, bytes, .. }) = slot.waiting.pop_front() else { continue };
            slot.pace.fill(now);
            slot.pace.left = slot.pace.left.saturating_sub(1);
            slot.at_work = true;
            self.bytes -= bytes;
            return Next::Take(device, said);
        }
        Next::Nothing(self.later.first().map(|(at, _)| *at))
    }

    /// Notes that what was taken of this device is taken in.
    pub(super) fn done(&mut self, device: &DeviceId, now: Instant) {
        let Some(slot) = self.slots.get_mut(device) else { return };
        slot.at_work = false;
        self.queue(device.clone(), now);
    }

    /// Returns the number of messages that found no room, once everything else is taken in.
    pub(super) fn missed(&mut self) -> u64 {
        match self.bytes {
            0 => std::mem::take(&mut self.missed),
            _ => 0,
        }
    }

    /// Puts back what was taken and could not be taken in, before what waits of its device; not if something newer of its kind does.
    pub(super) fn put_back(&mut self, device: &DeviceId, said: DeviceMessage, bytes: usize, now: Instant) {
        let (kind, bytes) = (said.kind(), bytes + OVERHEAD);
        let slot = self.slots.entry(device.clone()).or_insert_with(|| Slot::new(now));
        if slot.waiting.iter().any(|waiting| waiting.said.kind() == kind) {
            return;
        }
        if self.bytes + bytes > MOST {
            self.missed += 1;
            return;
        }
        slot.waiting.push_front(Waiting { said, bytes, since: now });
        self.bytes += bytes;
        self.queue(device.clone(), now);
        self.sweep(now);
    }

    /// Takes out what waits of these devices, in its order.
    pub(super) fn take_of(
        &mut self,
        is_wanted: impl Fn(&DeviceId) -> bool,
    ) -> Vec<(DeviceId, DeviceMessage, usize)> {
        let mut taken = Vec::new();
        for (device, slot) in self.slots.iter_mut().filter(|(device, _)| is_wanted(device)) {
            for Waiting { said, bytes, .. } in slot.waiting.drain(..) {
                self.bytes -= bytes;
                taken.push((device.clone(), said, bytes - OVERHEAD));
            }
        }
        taken
    }

    /// Forgets what has waited since before a moment, and devices of which nothing waits.
    pub(super) fn forget_before(&mut self, moment: Instant) {
        let bytes = &mut self.bytes;
        self.slots.retain(|_, slot| {
            slot.waiting.retain(|waiting| {
                let stays = waiting.since >= moment;
                *bytes -= if stays { 0 } else { waiting.bytes };
                stays
            });
            !slot.waiting.is_empty()
        });
        self.ready.clear();
        self.later.clear();
    }

    /// Forgets devices that say nothing and may say as much as any.
    fn sweep(&mut self, now: Instant) {
        if self.slots.len() < SWEEP.max(2 * self.swept) {
            return;
        }
        self.slots.retain(|_, slot| {
            slot.pace.fill(now);
            slot.at_work || slot.queued || slot.pace.left < BURST
        });
        self.swept = self.slots.len();
    }
}

#[cfg(test)]
mod tests {
    use otaru_format::digest::Digest;
    use otaru_format::status::{Epoch, UpdateState};

    use super::*;

    fn report(state: UpdateState, version: &str) -> DeviceMessage {
        let report = Box::new(Status {
            device: "d".to_owned(),
            chip: "esp32c3".to_owned(),
            state,
            project: "lamp".to_owned(),
            product: None,
            version: version.to_owned(),
            image: Digest::of(b""),
            slot: 0,
            confirmed: true,
            progress: None,
            attempt: 0,
            deployment: None,
            error: None,
            failed: None,
            guards_lost: false,
            left_tls: false,
            tls: None,
            boot: "power_on".to_owned(),
            uptime: 1,
            rssi: None,
            free_heap: None,
            free_stack: None,
            order: None,
            epoch: None,
            boots: None,
            n: None,
        });
        DeviceMessage::Report { report, live: true }
    }

    const ONLINE: DeviceMessage = DeviceMessage::Presence { online: true, anew: true };

    fn id(name: &str) -> DeviceId {
        DeviceId::from(name)
    }

    /// Tells a message in a word.
    fn word(said: &DeviceMessage) -> String {
        match said {
            DeviceMessage::Report { report, .. } => format!("{} {}", report.state, report.version),
            DeviceMessage::Presence { online, anew } => format!("online {online} anew {anew}"),
        }
    }

    /// Takes in everything that there is at this moment.
    fn drain(mailbox: &mut Mailbox, now: Instant) -> Vec<String> {
        let mut taken = Vec::new();
        while let Next::Take(device, said) = mailbox.next(now) {
            taken.push(format!("{device}: {}", word(&said)));
            mailbox.done(&device, now);
        }
        taken
    }

    #[test]
    fn the_newest_progress_and_the_newest_verdict_wait() {
        let (mut mailbox, now) = (Mailbox::default(), Instant::now());
        mailbox.put(id("a"), ONLINE, 6, now);
        for number in 0..9 {
            mailbox.put(id("a"), report(UpdateState::Downloading, &number.to_string()), 500, now);
            mailbox.put(id("a"), report(UpdateState::Failed, &number.to_string()), 500, now);
        }
        for number in 10..19 {
            mailbox.put(id("a"), report(UpdateState::Idle, &number.to_string()), 500, now);
        }
        assert_eq!(drain(&mut mailbox, now), ["a: online true anew true", "a: failed 8", "a: idle 18"]);
        assert_eq!(mailbox.bytes, 0);
    }

    /// Report with a number, or without one if its epoch is 0.
    fn numbered(state: UpdateState, (epoch, boots, n): (u64, u32, u32), is_live: bool) -> DeviceMessage {
        let word = if is_live { "live" } else { "kept" };
        let DeviceMessage::Report { mut report, .. } = report(state, &format!("{epoch}.{boots}.{n} {word}"))
        else {
            unreachable!("a report is one")
        };
        let epoch = Some(Epoch(epoch)).filter(|epoch| epoch.0 != 0);
        (report.epoch, report.boots, report.n) = (epoch, Some(boots), Some(n));
        DeviceMessage::Report { report, live: is_live }
    }

    #[test]
    fn an_older_report_or_a_copy_takes_no_newer_ones_place() {
        let now = Instant::now();
        for state in [UpdateState::Downloading, UpdateState::Failed] {
            for (first, then, winner) in [
                // Within an epoch the numbers decide, whichever is live.
                (((7, 2, 5), true), ((7, 2, 4), true), "7.2.5 live"),
                (((7, 2, 5), true), ((7, 1, 9), false), "7.2.5 live"),
                (((7, 2, 5), false), ((7, 2, 4), true), "7.2.5 kept"),
                (((7, 2, 5), true), ((7, 3, 1), true), "7.3.1 live"),
                (((7, 2, 5), true), ((7, 2, 6), false), "7.2.6 kept"),
                // The same report: that it was heard live counts.
                (((7, 2, 5), true), ((7, 2, 5), false), "7.2.5 live"),
                (((7, 2, 5), false), ((7, 2, 5), true), "7.2.5 live"),
                // Without an order, what is kept does not displace what is live; else the later one wins.
                (((7, 2, 5), true), ((8, 9, 9), false), "7.2.5 live"),
                (((7, 2, 5), true), ((8, 1, 1), true), "8.1.1 live"),
                (((7, 2, 5), false), ((8, 1, 1), false), "8.1.1 kept"),
                (((0, 0, 1), true), ((0, 0, 2), false), "0.0.1 live"),
                (((0, 0, 1), false), ((0, 0, 2), true), "0.0.2 live"),
                (((0, 0, 1), true), ((0, 0, 2), true), "0.0.2 live"),
            ] {
                let mut mailbox = Mailbox::default();
                for (number, is_live) in [first, then] {
                    mailbox.put(id("a"), numbered(state, number, is_live), 500, now);
                }
                assert_eq!(drain(&mut mailbox, now), [format!("a: {state} {winner}")], "{first:?} {then:?}");
                assert_eq!(mailbox.bytes, 0);
            }
        }
    }

    #[test]
    fn each_device_has_its_turn() {
        let (mut mailbox, now) = (Mailbox::default(), Instant::now());
        for name in ["a", "b", "c"] {
            mailbox.put(id(name), ONLINE, 6, now);
            mailbox.put(id(name), report(UpdateState::Idle, "1"), 500, now);
        }
        let taken = drain(&mut mailbox, now);
        let names: String = taken.iter().filter_map(|text| text.chars().next()).collect();
        assert_eq!(names, "abcabc");
    }

    #[test]
    fn messages_of_a_device_are_taken_one_after_the_other() {
        let (mut mailbox, now) = (Mailbox::default(), Instant::now());
        mailbox.put(id("a"), ONLINE, 6, now);
        assert!(matches!(mailbox.next(now), Next::Take(..)));
        mailbox.put(id("a"), report(UpdateState::Idle, "1"), 500, now);
        assert!(matches!(mailbox.next(now), Next::Nothing(None)), "the one before is not taken in yet");
        mailbox.done(&id("a"), now);
        assert_eq!(drain(&mut mailbox, now), ["a: idle 1"]);
    }

    #[test]
    fn who_says_much_is_heard_at_a_pace_and_others_at_once() {
        let (mut mailbox, start) = (Mailbox::default(), Instant::now());
        let mut taken = 0;
        for _ in 0..1_000 {
            mailbox.put(id("a"), report(UpdateState::Idle, "1"), 500, start);
            taken += drain(&mut mailbox, start).len();
        }
        assert_eq!(taken, BURST as usize);
        let Next::Nothing(Some(at)) = mailbox.next(start) else { panic!("it is looked at again by itself") };
        mailbox.put(id("a"), report(UpdateState::Failed, "2"), 500, start);
        mailbox.put(id("b"), report(UpdateState::Idle, "1"), 500, start);
        assert_eq!(drain(&mut mailbox, start), ["b: idle 1"]);
        assert_eq!(drain(&mut mailbox, at), ["a: idle 1"]);
        assert_eq!(drain(&mut mailbox, at + REFILL), ["a: failed 2"], "no verdict is lost");
    }

    #[test]
    fn what_waits_has_a_bound_and_what_found_no_room_is_told() {
        let (mut mailbox, now) = (Mailbox::default(), Instant::now());
        let devices = MOST / (4_096 + OVERHEAD) + 10;
        for number in 0..devices {
            mailbox.put(id(&number.to_string()), report(UpdateState::Idle, "1"), 4_096, now);
        }
        assert!(mailbox.bytes <= MOST);
        assert_eq!(mailbox.missed(), 0, "not before there is room");
        assert_eq!(drain(&mut mailbox, now).len(), devices - 10);
        assert_eq!(mailbox.missed(), 10);
        assert_eq!(mailbox.missed(), 0, "told once");
    }

    #[test]
    fn devices_that_say_nothing_are_forgotten() {
        let (mut mailbox, start) = (Mailbox::default(), Instant::now());
        for number in 0..10 * SWEEP {
            let now = start + REFILL * u32::try_from(number).unwrap();
            mailbox.put(id(&number.to_string()), ONLINE, 6, now);
            drain(&mut mailbox, now);
        }
        assert!(mailbox.slots.len() <= 2 * SWEEP, "{}", mailbox.slots.len());
    }

    #[test]
    fn what_is_another_servers_waits_for_half_a_minute() {
        let (mut foreign, start) = (Mailbox::default(), Instant::now());
        foreign.put(id("a"), report(UpdateState::Downloading, "1"), 500, start);
        foreign.put(id("a"), report(UpdateState::Failed, "2"), 500, start);
        foreign.put(id("b"), report(UpdateState::Idle, "3"), 500, start);
        let later = start + Duration::from_secs(20);
        foreign.put(id("a"), report(UpdateState::Downloading, "4"), 500, later);
        foreign.forget_before(later);
        let taken = foreign.take_of(|device| *device == id("a"));
        let words: Vec<String> =
            taken.iter().map(|(device, said, _)| format!("{device}: {}", word(said))).collect();
        assert_eq!(words, ["a: downloading 4"]);
        assert!(foreign.take_of(|_| true).is_empty());
        assert_eq!(foreign.bytes, 0);
    }

    #[test]
    fn what_was_not_taken_in_goes_before_what_came_later() {
        let (mut mailbox, now) = (Mailbox::default(), Instant::now());
        mailbox.put(id("a"), report(UpdateState::Failed, "1"), 500, now);
        let Next::Take(device, said) = mailbox.next(now) else { unreachable!("there is one") };
        mailbox.put(id("a"), report(UpdateState::Downloading, "2"), 500, now);
        mailbox.put_back(&device, said, 500, now);
        mailbox.done(&device, now);
        assert_eq!(drain(&mut mailbox, now), ["a: failed 1", "a: downloading 2"]);
        // Something newer of its kind has taken its place.
        mailbox.put(id("a"), report(UpdateState::Failed, "3"), 500, now);
        let Next::Take(device, said) = mailbox.next(now) else { unreachable!("there is one") };
        mailbox.put(id("a"), report(UpdateState::Failed, "4"), 500, now);
        mailbox.put_back(&device, said, 500, now);
        mailbox.done(&device, now);
        assert_eq!(drain(&mut mailbox, now), ["a: failed 4"]);
        assert_eq!(mailbox.bytes, 0);
    }

    #[test]
    fn what_became_another_servers_on_the_way_waits_behind_nothing_newer() {
        let (mut foreign, now) = (Mailbox::default(), Instant::now());
        foreign.put_back(&id("a"), report(UpdateState::Idle, "1"), 500, now);
        foreign.put(id("b"), report(UpdateState::Idle, "3"), 500, now);
        // It does not say which of the two is newer, but this one was heard before.
        foreign.put_back(&id("b"), report(UpdateState::Idle, "2"), 500, now);
        let taken = foreign.take_of(|_| true);
        let mut words: Vec<String> =
            taken.iter().map(|(device, said, _)| format!("{device}: {}", word(said))).collect();
        words.sort();
        assert_eq!(words, ["a: idle 1", "b: idle 3"]);
        assert_eq!(foreign.bytes, 0);
    }
}
