//! Connections to the embedded broker just now: whose they are, their end, and who is put off by another of the same client id again and again.
//!
//! A device that restarts leaves a connection that breaks and makes a new one, and the last will of the old may be told after the first
//! word of the new: it says `offline` and is not. The broker knows better.
//!
//! Two boards of one name take the connection from each other without end: MQTT lets the newer one have it, and the older one comes
//! back, ours after a minute. One takeover is a restart. Many in a short time are told, and fewer where two addresses take turns.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use otaru_api::{Contested, Role};

use super::access::Identity;

/// The time within which takeovers are counted together.
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// The most takeovers in that time that are taken for restarts, where no address comes back after another.
const RESTARTS: usize = 4;
/// The most takeovers of a client that are remembered.
const REMEMBERED: usize = 64;
/// The most clients whose takeovers are remembered.
const CLIENTS: usize = 10_000;
/// The pause before the log has the same client again.
const AGAIN: Duration = Duration::from_secs(3_600);
/// The most lines that the log has about takeovers in an hour.
const LINES: usize = 20;

/// A broker, as far as something can be ended there.
pub(crate) trait EndConnections: Send + Sync {
    /// Ends connections, sessions and logins under way of these identities; their wills are published. Returns how many connections
    /// that were.
    fn end(&self, ended: Vec<Identity>) -> usize;

    /// Forgets the retained messages whose topics begin so.
    fn forget_retained(&self, prefix: &str);

    /// Returns the tokens that may have connections, where the broker does not tell who [came](Connections::came) and went.
    fn tokens(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

/// Connections of the embedded broker. Where the broker is somebody else's, nothing is known of them; what can be ended there is ended
/// if that broker asks this server who may connect.
#[derive(Default)]
pub struct Connections {
    inner: Mutex<Inner>,
    /// Held only while it runs: it knows who knows this.
    broker: Mutex<Option<Arc<dyn EndConnections>>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Numbers of connections.
    connected: HashMap<Identity, u32>,
    /// Devices among them whose newest connection came over TLS.
    over_tls: HashSet<Identity>,
    takeovers: HashMap<String, Takeovers>,
    /// Times of the log lines about takeovers.
    lines: VecDeque<Instant>,
}

/// Takeovers of one client id.
#[derive(Debug, Default)]
struct Takeovers {
    /// Each with the address that took the connection.
    recent: VecDeque<(Instant, IpAddr)>,
    told: Option<Instant>,
}

/// Says what takeovers of one client id mean.
fn contested(takeovers: usize, addresses: BTreeSet<IpAddr>, take_turns: bool) -> Contested {
    let minutes = WITHIN.as_secs() / 60;
    let named: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let times = format!(
        "within {minutes} min its connection was taken over {takeovers} times, by {}",
        named.join(" and ")
    );
    let detail = match take_turns {
        true => format!("two boards use this name: {times}; give one of them another name"),
        false => format!(
            "{times}: two boards use this name, or one restarts or loses its network again and again; give each board its own name"
        ),
    };
    Contested { takeovers, minutes, addresses, detail }
}

impl Connections {
    /// Whether this device has a connection, or one that is just about to be found broken.
    pub fn has(&self, device: &str) -> bool {
        let inner = self.lock();
        let identities = [Identity::Device(device.to_owned()), Identity::Local(device.to_owned())];
        identities.iter().any(|identity| inner.connected.contains_key(identity))
    }

    /// Returns the tokens that have connections.
    pub fn tokens(&self) -> BTreeSet<String> {
        let broker = self.broker().clone();
        let told = broker.map(|broker| broker.tokens()).unwrap_or_default();
        let inner = self.lock();
        let ids = inner.connected.keys().filter_map(|identity| match identity {
            Identity::Token { id, .. } => Some(id.clone()),
            _ => None,
        });
        ids.chain(told).collect()
    }

    /// Ends the connections and sessions of a token. From the return on it has no rights at the broker.
    pub fn end_token(&self, id: &str) {
        // With whichever role it came in.
        self.end(Role::ALL.map(|role| Identity::Token { id: id.to_owned(), role }).to_vec());
    }

    /// Ends the connections and sessions of devices, whose logins are others from now on.
    pub fn end_devices(&self, devices: impl IntoIterator<Item = String>) {
        let both = |id: String| [Identity::Device(id.clone()), Identity::Local(id)];
        self.end(devices.into_iter().flat_map(both).collect());
    }

    /// Ends a device that retires, and forgets what it left at the broker under its topics.
    pub fn retire(&self, base: &str, device: &str) {
        self.end_devices([device.to_owned()]);
        if let Some(broker) = self.broker().clone() {
            broker.forget_retained(&format!("{base}/{device}/"));
        }
    }

    fn end(&self, ended: Vec<Identity>) {
        if ended.is_empty() {
            return;
        }
        if let Some(broker) = self.broker().clone() {
            let connections = broker.end(ended);
            tracing::debug!(connections, "connections to the broker are ended");
        }
    }

    /// Begins to know a broker.
    pub(crate) fn attend(&self, broker: impl EndConnections + 'static) {
        *self.broker() = Some(Arc::new(broker));
    }

    /// Knows it no more.
    pub(super) fn leave(&self) {
        *self.broker() = None;
    }

    fn broker(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn EndConnections>>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a client took the place of one with the same login. Says when this is to be told in the log.
    pub(super) fn taken_over(&self, client: &str, peer: SocketAddr, now: Instant) -> Option<Contested> {
        let mut all = self.lock();
        let inner = &mut *all;
        let ip = peer.ip().to_canonical();
        if !inner.has_room_for(client, now) {
            return None;
        }
        let known = inner.takeovers.entry(client.to_owned()).or_default();
        known.recent.push_back((now, ip));
        if known.recent.len() > REMEMBERED {
            known.recent.pop_front();
        }
        let contested = known.contested(now)?;
        if known.told.is_some_and(|told| now.duration_since(told) < AGAIN) {
            return None;
        }
        inner.lines.retain(|line| now.duration_since(*line) < AGAIN);
        if inner.lines.len() >= LINES {
            return None;
        }
        known.told = Some(now);
        inner.lines.push_back(now);
        Some(contested)
    }

    /// Whether more than one connection wants this client id.
    pub fn contested(&self, client: &str) -> Option<Contested> {
        self.contested_at(client, Instant::now())
    }

    fn contested_at(&self, client: &str, now: Instant) -> Option<Contested> {
        self.lock().takeovers.get(client)?.contested(now)
    }

    /// Whether this device's newest connection came over TLS.
    pub fn is_over_tls(&self, device: &str) -> bool {
        let inner = self.lock();
        let identities = [Identity::Device(device.to_owned()), Identity::Local(device.to_owned())];
        identities.iter().any(|identity| inner.over_tls.contains(identity))
    }

    pub(super) fn came(&self, who: &Identity, over_tls: bool) {
        let mut all = self.lock();
        *all.connected.entry(who.clone()).or_default() += 1;
        match over_tls {
            true => drop(all.over_tls.insert(who.clone())),
            false => drop(all.over_tls.remove(who)),
        }
    }

    pub(super) fn went(&self, who: &Identity) {
        let mut all = self.lock();
        match all.connected.get_mut(who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                all.connected.remove(who);
                all.over_tls.remove(who);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether the takeovers of one more client can be remembered; those of long ago make room.
    fn has_room_for(&mut self, client: &str, now: Instant) -> bool {
        if self.takeovers.len() >= CLIENTS && !self.takeovers.contains_key(client) {
            self.takeovers.retain(|_, known| known.lately(now).next().is_some());
        }
        self.takeovers.len() < CLIENTS || self.takeovers.contains_key(client)
    }
}

impl Takeovers {
    fn lately(&self, now: Instant) -> impl Iterator<Item = IpAddr> {
        self.recent.iter().filter(move |(at, _)| now.duration_since(*at) <= WITHIN).map(|(_, ip)| *ip)
    }

    fn contested(&self, now: Instant) -> Option<Contested> {
        let mut lately: Vec<IpAddr> = self.lately(now).collect();
        let (takeovers, addresses) = (lately.len(), lately.iter().copied().collect::<BTreeSet<_>>());
        lately.dedup();
        // One that comes back after another: whoever only gets new addresses has none twice.
        let take_turns = lately.len() > addresses.len();
        (takeovers > RESTARTS || take_turns).then(|| contested(takeovers, addresses, take_turns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_outlives_the_old_one() {
        let (connections, lamp) = (Connections::default(), Identity::Device("lamp".into()));
        connections.came(&lamp, false);
        connections.came(&lamp, false);
        connections.went(&lamp);
        assert!(connections.has("lamp"));
        connections.went(&lamp);
        assert!(!connections.has("lamp"));
        connections.went(&lamp);
        assert!(!connections.has("lamp"));
    }

    #[test]
    fn the_newest_connection_says_whether_a_device_came_over_tls() {
        let (connections, lamp) = (Connections::default(), Identity::Device("lamp".into()));
        connections.came(&lamp, true);
        assert!(connections.is_over_tls("lamp") && !connections.is_over_tls("hall"));
        connections.came(&lamp, false);
        assert!(!connections.is_over_tls("lamp"));
        connections.came(&lamp, true);
        (0..3).for_each(|_| connections.went(&lamp));
        assert!(!connections.is_over_tls("lamp") && connections.lock().over_tls.is_empty());
    }

    /// Lets a client come from machines of these numbers, one after the other; says how often that is told.
    fn takes(connections: &Connections, client: &str, from: &[u8], at: Instant) -> usize {
        let mut told = 0;
        for (number, machine) in from.iter().enumerate() {
            let peer = SocketAddr::from(([10, 0, 0, *machine], 50_000 + number as u16));
            if connections.has(client) {
                told += usize::from(connections.taken_over(client, peer, at).is_some());
            }
            connections.came(&Identity::Device(client.to_owned()), false);
        }
        told
    }

    #[test]
    fn two_boards_of_one_name_are_told_once() {
        let (connections, start) = (Connections::default(), Instant::now());
        assert_eq!(takes(&connections, "lamp", &[1, 2, 1], start), 0);
        assert_eq!(connections.contested_at("lamp", start), None, "a board may get another address");
        assert_eq!(takes(&connections, "lamp", &[2, 1, 2], start), 1);
        let contested = connections.contested_at("lamp", start).unwrap();
        assert_eq!((contested.takeovers, contested.minutes), (5, 10));
        assert!(
            contested.detail.contains("two boards use this name")
                && contested.detail.contains("by 10.0.0.1 and 10.0.0.2"),
            "{contested:?}"
        );
        assert_eq!(takes(&connections, "hall", &[1; 5], start), 0);
        assert_eq!(connections.contested_at("hall", start), None, "so often a board may restart");
        assert_eq!(takes(&connections, "hall", &[1; 3], start), 1);
        let later = start + WITHIN + Duration::from_secs(1);
        assert_eq!(connections.contested_at("lamp", later), None, "what is over is not told");
        assert_eq!(takes(&connections, "lamp", &[1; 20], later), 0, "the log has it already");
        let contested = connections.contested_at("lamp", later).unwrap();
        assert!(contested.detail.contains("or one restarts"), "{contested:?}");
        assert_eq!(takes(&connections, "lamp", &[1; 20], later + AGAIN), 1);
    }

    #[test]
    fn who_takes_over_fills_neither_memory_nor_log() {
        let (connections, start) = (Connections::default(), Instant::now());
        let mut told = 0;
        for number in 0..200 {
            told += takes(&connections, &format!("lamp-{number}"), &[1; 100], start);
        }
        assert_eq!(told, LINES);
        assert!(connections.lock().takeovers.values().all(|known| known.recent.len() <= REMEMBERED));
        for number in 0..CLIENTS + 50 {
            takes(&connections, &format!("hall-{number}"), &[1; 2], start);
        }
        assert_eq!(connections.lock().takeovers.len(), CLIENTS);
        takes(&connections, "late", &[1; 20], start + WITHIN * 2);
        assert!(
            connections.contested_at("late", start + WITHIN * 2).is_some(),
            "others are forgotten by then"
        );
    }
}
