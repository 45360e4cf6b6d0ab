//! The door: sockets before login, in all and from each address, and how often an address comes without logging in. Whoever has
//! logged in counts for its identity, and for no address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rate::Bucket;
use crate::reason::Reason;
use crate::settings::{Settings, Strangers};
use crate::signal::Signal;

/// Sender of connections: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            v4 => v4,
        })
    }
}

/// Number of a stranger, rising with the time of its arrival.
pub(super) type Pass = u64;

/// State of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not said CONNECT.
    Silent(Pass),
    /// It has, and is being decided on.
    Deciding,
    /// It has logged in.
    Guest,
    /// It counts no longer, though its socket may still be open for a last word.
    Gone,
}

/// Rank of an origin with silent strangers among those that make place, the highest first: by its strangers, then by the age of the
/// oldest silent one.
type Rank = (usize, Reverse<Pass>, Origin);

/// Strangers of one origin. Whoever has logged in counts for its identity.
#[derive(Debug)]
struct Visits {
    /// Strangers that have not said CONNECT yet.
    silent: BTreeMap<Pass, Arc<Signal>>,
    /// Strangers that are being decided on.
    deciding: usize,
    rank: Option<Rank>,
    connects: Bucket,
}

impl Visits {
    fn new(now: Instant) -> Self {
        Self { silent: BTreeMap::new(), deciding: 0, rank: None, connects: Bucket::full(now) }
    }

    fn strangers(&self) -> usize {
        self.silent.len() + self.deciding
    }

    fn is_present(&self) -> bool {
        self.strangers() > 0
    }
}

/// All who are at the door, by their origin, and the number of those inside.
#[derive(Debug)]
pub(super) struct Door {
    settings: Settings,
    origins: HashMap<Origin, Visits>,
    /// Origins with silent strangers.
    ranks: BTreeSet<Rank>,
    strangers: usize,
    /// Strangers that are being decided on.
    deciding: usize,
    guests: usize,
    last: Pass,
    /// Reason that nobody is taken in any longer.
    closed: Option<Reason>,
    refused: u64,
    told: Option<Instant>,
}

/// Origins that are remembered for their rate only.
const REMEMBERED: usize = 10_000;
/// Pause between two lines of the log.
const QUIET: Duration = Duration::from_secs(1);

impl Door {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            origins: HashMap::new(),
            ranks: BTreeSet::new(),
            strangers: 0,
            deciding: 0,
            guests: 0,
            last: 0,
            closed: None,
            refused: 0,
            told: None,
        }
    }

    /// Takes a stranger in, and has another make place for it if there is none.
    ///
    /// # Errors
    /// When it is to be closed at once.
    pub(super) fn enter(
        &mut self,
        origin: Origin,
        signal: &Arc<Signal>,
        now: Instant,
    ) -> Result<Pass, Reason> {
        if let Some(reason) = self.closed {
            return Err(reason);
        }
        self.forget(now);
        let limits = self.settings.strangers;
        let visits = self.origins.entry(origin).or_insert_with(|| Visits::new(now));
        if !visits.connects.take(limits.failures_per_address, now) {
            return Err(Reason::ConnectionRateExceeded);
        }
        let (own, has_silent) = (visits.strangers(), !visits.silent.is_empty());
        if self.strangers >= limits.sockets {
            // The newcomer is one more of its own origin. Whoever is being decided on is not sent away for a newcomer.
            let below_share = own < limits.sockets_per_address;
            let is_other = |rank: &&Rank| rank.0 > own || !has_silent && below_share;
            let from = self.ranks.last().filter(is_other).map_or(origin, |(.., other)| *other);
            self.make_place(from).ok_or(Reason::ServerBusy)?;
        }
        self.last += 1;
        if let Some(visits) = self.origins.get_mut(&origin) {
            visits.silent.insert(self.last, Arc::clone(signal));
            self.strangers += 1;
            self.rank(origin);
        }
        Ok(self.last)
    }

    /// Ranks an origin anew whose strangers have changed.
    fn rank(&mut self, origin: Origin) {
        let Some(visits) = self.origins.get_mut(&origin) else { return };
        let oldest = visits.silent.first_key_value();
        let rank = oldest.map(|(oldest, _)| (visits.strangers(), Reverse(*oldest), origin));
        if let Some(before) = std::mem::replace(&mut visits.rank, rank) {
            self.ranks.remove(&before);
        }
        self.ranks.extend(rank);
    }

    /// Takes a silent stranger out of its origin, the oldest if none is named.
    fn take_silent(&mut self, origin: Origin, pass: Option<Pass>) -> Option<Arc<Signal>> {
        let visits = self.origins.get_mut(&origin)?;
        let signal = match pass {
            Some(pass) => visits.silent.remove(&pass)?,
            None => visits.silent.pop_first()?.1,
        };
        self.rank(origin);
        Some(signal)
    }

    /// Ends the oldest silent stranger of an origin, if it has one.
    fn make_place(&mut self, origin: Origin) -> Option<()> {
        self.take_silent(origin, None)?.end(Reason::ServerBusy);
        self.strangers -= 1;
        Some(())
    }

    /// Notes that a stranger has said CONNECT; it does not have to make place any longer.
    ///
    /// # Errors
    /// When it had to already, when logins have half of the room and its origin has its share of them, and when the door was closed.
    pub(super) fn hear(&mut self, origin: Origin, pass: Pass) -> Result<(), Reason> {
        if let Some(reason) = self.closed {
            return Err(reason);
        }
        let Strangers { sockets, sockets_per_address, .. } = self.settings.strangers;
        let own = self.origins.get(&origin).map_or(0, |visits| visits.deciding);
        if own >= sockets_per_address && self.deciding >= sockets / 2 {
            return Err(Reason::ServerBusy);
        }
        self.take_silent(origin, Some(pass)).ok_or(Reason::ServerBusy)?;
        let visits = self.origins.get_mut(&origin).ok_or(Reason::ServerBusy)?;
        visits.deciding += 1;
        self.deciding += 1;
        self.rank(origin);
        Ok(())
    }

    /// Counts a stranger that was decided on as one who has logged in.
    pub(super) fn admit(&mut self, origin: Origin) {
        self.part(origin, Standing::Deciding);
        self.guests += 1;
    }

    /// Counts the connect of one who was counted as logged in, and whom nothing else refused, as no failure of its origin.
    pub(super) fn forgive(&mut self, origin: Origin) {
        if let Some(visits) = self.origins.get_mut(&origin) {
            visits.connects.give_back(self.settings.strangers.failures_per_address);
        }
    }

    /// Lets one go who is in this state.
    pub(super) fn part(&mut self, origin: Origin, standing: Standing) {
        match standing {
            // One that had to make place is gone already.
            Standing::Silent(pass) => {
                self.strangers -= usize::from(self.take_silent(origin, Some(pass)).is_some());
            }
            Standing::Deciding => {
                if let Some(visits) = self.origins.get_mut(&origin) {
                    visits.deciding -= 1;
                    self.deciding -= 1;
                    self.strangers -= 1;
                }
                self.rank(origin);
            }
            Standing::Guest => self.guests -= 1,
            Standing::Gone => {}
        }
    }

    /// Forgets origins that nobody is here from, once there are many.
    fn forget(&mut self, now: Instant) {
        let most = REMEMBERED + self.strangers;
        if self.origins.len() >= most {
            self.origins.retain(|_, visits| visits.is_present() || !visits.connects.is_full(now));
        }
        if self.origins.len() >= most {
            self.origins.retain(|_, visits| visits.is_present());
        }
    }

    /// Ends all strangers that are silent, and takes nobody in any longer.
    pub(super) fn close(&mut self, reason: Reason) {
        self.closed = Some(reason);
        for signal in self.origins.values().flat_map(|visits| visits.silent.values()) {
            signal.end(reason);
        }
    }

    /// Notes a refusal; returns how many there were since the log was told last, at most once in a second.
    pub(super) fn refuse(&mut self, now: Instant) -> Option<u64> {
        self.refused += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < QUIET) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.refused))
    }

    /// Counts strangers.
    pub(super) fn strangers(&self) -> usize {
        self.strangers
    }

    /// Counts all who are here.
    pub(super) fn present(&self) -> usize {
        self.strangers + self.guests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rate;

    fn door(sockets: usize, share: usize) -> Door {
        let mut settings = Settings::default();
        settings.strangers.sockets = sockets;
        settings.strangers.sockets_per_address = share;
        Door::new(settings)
    }

    fn origin(number: u8) -> Origin {
        IpAddr::from([10, 0, 0, number]).into()
    }

    /// Lets some come from an origin; returns the signals of those who were taken in.
    fn come(door: &mut Door, from: Origin, count: usize, now: Instant) -> Vec<(Pass, Arc<Signal>)> {
        let one = |_| {
            let signal = Arc::new(Signal::default());
            door.enter(from, &signal, now).ok().map(|pass| (pass, signal))
        };
        (0..count).filter_map(one).collect()
    }

    fn still_here(strangers: &[(Pass, Arc<Signal>)]) -> usize {
        strangers.iter().filter(|(_, signal)| signal.ending().is_none()).count()
    }

    #[test]
    fn an_address_may_use_all_of_the_room_but_keeps_only_its_share_of_it() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let flood = come(&mut door, origin(1), 300, now);
        assert_eq!((flood.len(), still_here(&flood), door.strangers()), (300, 100, 100));
        assert_eq!(still_here(&flood[200..]), 100, "the oldest made place");
        let others: Vec<_> = (2..=10).flat_map(|number| come(&mut door, origin(number), 10, now)).collect();
        assert_eq!((still_here(&others), still_here(&flood), door.strangers()), (90, 10, 100));
        let late = come(&mut door, origin(11), 1, now);
        assert_eq!((still_here(&late), door.strangers()), (1, 100), "a single one always finds a place");
        let counted: BTreeSet<_> = door.ranks.iter().map(|(count, _, origin)| (*count, *origin)).collect();
        let wanted = door.origins.iter().map(|(origin, visits)| (visits.silent.len(), *origin)).collect();
        assert_eq!(counted, wanted);
        for (from, (pass, _)) in
            flood.iter().map(|one| (origin(1), one)).chain(late.iter().map(|one| (origin(11), one)))
        {
            door.part(from, Standing::Silent(*pass));
        }
        assert_eq!(door.ranks.len(), 9, "{:?}", door.ranks);
    }

    #[test]
    fn many_devices_behind_one_address_log_in_at_once() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let mut inside = 0;
        for _ in 0..10 {
            let here = come(&mut door, origin(1), 100, now);
            for (pass, _) in &here {
                if door.hear(origin(1), *pass).is_ok() {
                    door.admit(origin(1));
                    inside += 1;
                }
            }
        }
        assert_eq!((inside, door.strangers(), door.present()), (1000, 0, 1000), "none had to come again");
        for _ in 0..500 {
            let (pass, _) = come(&mut door, origin(1), 1, now).remove(0);
            door.hear(origin(1), pass).unwrap();
            door.admit(origin(1));
        }
        assert_eq!(door.present(), 1500);
        (0..1500).for_each(|_| door.part(origin(1), Standing::Guest));
        assert_eq!(door.present(), 0);
    }

    #[test]
    fn whoever_is_being_decided_on_does_not_make_place() {
        let (mut door, now) = (door(2, 2), Instant::now());
        for _ in 0..2 {
            let (pass, _) = come(&mut door, origin(1), 1, now).remove(0);
            door.hear(origin(1), pass).unwrap();
        }
        assert!(come(&mut door, origin(2), 1, now).is_empty());
        door.part(origin(1), Standing::Deciding);
        let [first, second] = [come(&mut door, origin(1), 1, now), come(&mut door, origin(1), 1, now)];
        assert_eq!((still_here(&first), still_here(&second)), (0, 1));
        assert_eq!(door.hear(origin(1), first[0].0), Err(Reason::ServerBusy));
        door.part(origin(1), Standing::Silent(first[0].0));
        assert_eq!(door.strangers(), 2);
    }

    #[test]
    fn whoever_is_being_decided_on_counts_for_the_share_of_its_address() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let crowd = come(&mut door, origin(1), 100, now);
        let heard = crowd.iter().filter(|(pass, _)| door.hear(origin(1), *pass).is_ok()).count();
        assert_eq!((heard, door.strangers()), (50, 100), "half of the room is its own logins");
        let others: Vec<_> = (2..=6).flat_map(|number| come(&mut door, origin(number), 10, now)).collect();
        assert_eq!((still_here(&others), still_here(&crowd), door.strangers()), (50, 50, 100));
        assert!(come(&mut door, origin(1), 9, now).is_empty(), "nobody makes place for it");
        (0..41).for_each(|_| door.part(origin(1), Standing::Deciding));
        let late = come(&mut door, origin(1), 41, now);
        assert!(late.iter().all(|(pass, _)| door.hear(origin(1), *pass).is_ok()), "its share is free again");
        assert_eq!((late.len(), still_here(&others), door.strangers()), (41, 50, 100));
        assert_eq!(door.deciding, 50);
    }

    #[test]
    fn logins_of_few_addresses_leave_room_for_others() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let mut heard = Vec::new();
        for number in 1..=4 {
            let crowd = come(&mut door, origin(number), 100, now);
            heard.push(crowd.iter().filter(|(pass, _)| door.hear(origin(number), *pass).is_ok()).count());
        }
        assert_eq!(heard, [50, 10, 10, 10], "beyond half of the room each has its share");
        let [(pass, _)] = come(&mut door, origin(5), 1, now)[..] else { panic!("it finds no room") };
        door.hear(origin(5), pass).unwrap();
    }

    #[test]
    fn of_addresses_with_as_many_the_oldest_stranger_makes_place() {
        for order in [[1, 9, 5], [9, 1, 5], [5, 9, 1]] {
            let (mut door, now) = (door(3, 3), Instant::now());
            let here = order.map(|number| come(&mut door, origin(number), 1, now).remove(0));
            come(&mut door, origin(7), 1, now);
            assert_eq!(here.map(|(_, signal)| signal.ending().is_some()), [true, false, false], "{order:?}");
        }
    }

    #[test]
    fn nobody_comes_through_a_door_that_is_closed() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let here = come(&mut door, origin(1), 1, now);
        door.close(Reason::ServerShuttingDown);
        assert_eq!(still_here(&here), 0);
        assert_eq!(door.hear(origin(1), here[0].0), Err(Reason::ServerShuttingDown));
        assert!(come(&mut door, origin(2), 1, now).is_empty());
        door.part(origin(1), Standing::Silent(here[0].0));
        assert_eq!(door.present(), 0);
    }

    #[test]
    fn an_address_comes_only_so_often_and_is_forgotten() {
        let (mut door, now) = (door(100, 10), Instant::now());
        door.settings.strangers.failures_per_address = Rate { burst: 5, per_minute: 60 };
        for _ in 0..20 {
            let (pass, _) = come(&mut door, origin(2), 1, now).remove(0);
            door.hear(origin(2), pass).unwrap();
            door.admit(origin(2));
            door.forgive(origin(2));
        }
        assert_eq!(come(&mut door, origin(1), 9, now).len(), 5);
        assert_eq!(come(&mut door, origin(1), 9, now + Duration::from_secs(2)).len(), 2);
        for number in 0..3 * REMEMBERED as u32 {
            let from: Origin = IpAddr::from(number.to_be_bytes()).into();
            for (pass, _) in come(&mut door, from, 1, now) {
                door.part(from, Standing::Silent(pass));
            }
        }
        assert!(door.origins.len() <= REMEMBERED + door.present() + 1, "{}", door.origins.len());
        assert!(door.origins.contains_key(&origin(1)));
    }

    #[test]
    fn a_network_of_64_bits_is_one_origin() {
        let [a, b, c] = ["2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1"]
            .map(|ip| Origin::from(ip.parse::<IpAddr>().unwrap()));
        assert!(a == b && a != c);
        let [mapped, plain] =
            ["::ffff:10.0.0.1", "10.0.0.1"].map(|ip| Origin::from(ip.parse::<IpAddr>().unwrap()));
        assert_eq!(mapped, plain);
    }

    #[test]
    fn the_log_is_told_once_a_second() {
        let (mut door, now) = (door(1, 1), Instant::now());
        assert_eq!(door.refuse(now), Some(1));
        assert_eq!((0..50).filter_map(|_| door.refuse(now)).count(), 0);
        assert_eq!(door.refuse(now + QUIET), Some(51));
    }
}
