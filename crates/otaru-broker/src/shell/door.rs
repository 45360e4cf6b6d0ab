//! The door: sockets before login, in all and from each address, and how often an address comes without logging in. Whoever has
//! logged in counts for its identity, and for no address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rate::Bucket;
use crate::reason::Reason;
use crate::settings::Settings;
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
}

/// Strangers of one origin. Whoever has logged in counts for its identity.
#[derive(Debug)]
struct Visits {
    /// Those who have not said CONNECT yet.
    silent: BTreeMap<Pass, Arc<Signal>>,
    /// Those who are being decided on.
    deciding: usize,
    connects: Bucket,
}

impl Visits {
    fn new(now: Instant) -> Self {
        Self { silent: BTreeMap::new(), deciding: 0, connects: Bucket::full(now) }
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
    /// Origins with silent strangers, by how many these are.
    silent: BTreeSet<(usize, Origin)>,
    strangers: usize,
    guests: usize,
    last: Pass,
    refused: u64,
    told: Option<Instant>,
}

/// Origins that are remembered for their rate only.
const REMEMBERED: usize = 10_000;
/// Pause between two lines of the log.
const QUIET: Duration = Duration::from_secs(1);

impl Door {
    pub(super) fn new(settings: Settings) -> Self {
        let (origins, strangers, guests, last) = (HashMap::new(), 0, 0, 0);
        Self { settings, origins, silent: BTreeSet::new(), strangers, guests, last, refused: 0, told: None }
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
        self.forget(now);
        let limits = self.settings.strangers;
        let visits = self.origins.entry(origin).or_insert_with(|| Visits::new(now));
        if !visits.connects.take(limits.failures_per_address, now) {
            return Err(Reason::ConnectionRateExceeded);
        }
        let above_share = visits.strangers() >= limits.sockets_per_address;
        if self.strangers >= limits.sockets {
            let greediest = self.greediest(origin).ok_or(Reason::ServerBusy)?;
            self.make_place(greediest);
        } else if above_share && self.strangers >= limits.sockets / 2 {
            // Whoever is being decided on is not sent away for a newcomer; as long as there is room, it may come as well.
            self.make_place(origin);
        }
        self.last += 1;
        if let Some(visits) = self.origins.get_mut(&origin) {
            visits.silent.insert(self.last, Arc::clone(signal));
            let silent = visits.silent.len();
            self.recount(origin, silent - 1, silent);
            self.strangers += 1;
        }
        Ok(self.last)
    }

    /// Returns the origin with the most silent strangers; the newcomer's own, if it is one of them.
    fn greediest(&self, newcomer: Origin) -> Option<Origin> {
        let (most, origin) = self.silent.last()?;
        let is_newcomer = self.silent.contains(&(*most, newcomer));
        Some(if is_newcomer { newcomer } else { *origin })
    }

    /// Notes how many silent strangers an origin had and has.
    fn recount(&mut self, origin: Origin, before: usize, after: usize) {
        self.silent.remove(&(before, origin));
        if after > 0 {
            self.silent.insert((after, origin));
        }
    }

    /// Takes a silent stranger out of its origin, the oldest if none is named.
    fn take_silent(&mut self, origin: Origin, pass: Option<Pass>) -> Option<Arc<Signal>> {
        let visits = self.origins.get_mut(&origin)?;
        let signal = match pass {
            Some(pass) => visits.silent.remove(&pass)?,
            None => visits.silent.pop_first()?.1,
        };
        let left = visits.silent.len();
        self.recount(origin, left + 1, left);
        Some(signal)
    }

    /// Ends the oldest silent stranger of an origin.
    fn make_place(&mut self, origin: Origin) {
        if let Some(signal) = self.take_silent(origin, None) {
            signal.end(Reason::ServerBusy);
            self.strangers -= 1;
        }
    }

    /// Notes that a stranger has said CONNECT; it does not have to make place any longer.
    ///
    /// # Errors
    /// When it had to already.
    pub(super) fn hear(&mut self, origin: Origin, pass: Pass) -> Result<(), Reason> {
        self.take_silent(origin, Some(pass)).ok_or(Reason::ServerBusy)?;
        let visits = self.origins.get_mut(&origin).ok_or(Reason::ServerBusy)?;
        visits.deciding += 1;
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
        if let Standing::Silent(pass) = standing {
            // One that had to make place is gone already.
            self.strangers -= usize::from(self.take_silent(origin, Some(pass)).is_some());
            return;
        }
        if standing == Standing::Guest {
            self.guests -= 1;
        } else if let Some(visits) = self.origins.get_mut(&origin) {
            visits.deciding -= 1;
            self.strangers -= 1;
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

    /// Ends all strangers that are silent.
    pub(super) fn close(&mut self, reason: Reason) {
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
    fn an_address_may_use_half_of_the_room_but_keeps_only_its_share_of_it() {
        let (mut door, now) = (door(100, 10), Instant::now());
        let flood = come(&mut door, origin(1), 300, now);
        assert_eq!((flood.len(), still_here(&flood), door.strangers()), (300, 50, 50));
        assert_eq!(still_here(&flood[250..]), 50, "the oldest made place");
        let others: Vec<_> = (2..=10).flat_map(|number| come(&mut door, origin(number), 10, now)).collect();
        assert_eq!((still_here(&others), still_here(&flood), door.strangers()), (90, 10, 100));
        let late = come(&mut door, origin(11), 1, now);
        assert_eq!((still_here(&late), door.strangers()), (1, 100), "a single one always finds a place");
        let counted: BTreeSet<_> =
            door.origins.iter().map(|(origin, visits)| (visits.silent.len(), *origin)).collect();
        assert_eq!(door.silent, counted);
        for (from, (pass, _)) in
            flood.iter().map(|one| (origin(1), one)).chain(late.iter().map(|one| (origin(11), one)))
        {
            door.part(from, Standing::Silent(*pass));
        }
        assert_eq!(door.silent.len(), 9, "{:?}", door.silent);
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
        assert_eq!((inside, door.strangers(), door.present()), (500, 0, 500));
        for _ in 0..500 {
            let (pass, _) = come(&mut door, origin(1), 1, now).remove(0);
            door.hear(origin(1), pass).unwrap();
            door.admit(origin(1));
        }
        assert_eq!(door.present(), 1000);
        (0..1000).for_each(|_| door.part(origin(1), Standing::Guest));
        assert_eq!(door.present(), 0);
    }

    #[test]
    fn whoever_is_being_decided_on_does_not_make_place() {
        let (mut door, now) = (door(2, 1), Instant::now());
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
