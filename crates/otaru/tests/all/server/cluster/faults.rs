//! Faults that strike a cluster in the middle of its work, each with evidence that it hit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use otaru_testing::eventually_or;
use otaru_testing::postgres::psql;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::bucket::RelayedBucket;
use super::relay::Mood;
use super::{Cluster, SERVERS};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A server is killed, and starts again at once: it takes its own leases back.
    Kill,
    /// A server is killed, and starts again when the others have its part.
    KillForLong,
    /// A server stands still, for longer or shorter than its leases last.
    Freeze,
    DatabaseStops,
    DatabaseDies,
    BrokerRestarts,
    /// The bucket answers `503`.
    BucketRefuses,
    /// The bucket does not answer.
    BucketStalls,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::Kill,
        Self::KillForLong,
        Self::Freeze,
        Self::DatabaseStops,
        Self::DatabaseDies,
        Self::BrokerRestarts,
        Self::BucketRefuses,
        Self::BucketStalls,
    ];
}

/// Count of a kind of fault, and of those that hit.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    struck: usize,
    hit: usize,
    /// Leases that servers held, and writes that they had open, when they were killed or frozen.
    leases: usize,
    writes: usize,
}

/// Faults of a test, in rounds of all kinds, each shuffled.
pub(super) struct Faults {
    rng: SmallRng,
    left: Vec<Fault>,
    counts: BTreeMap<Fault, Count>,
}

impl Faults {
    /// Draws so many.
    pub(super) fn new(seed: u64, many: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut left = Vec::new();
        while left.len() < many {
            let mut round = Fault::ALL;
            round.shuffle(&mut rng);
            left.extend(round);
        }
        // The last are the first to strike.
        left.reverse();
        left.drain(..left.len() - many);
        Self { rng, left, counts: BTreeMap::new() }
    }

    /// Counts those that have not struck yet.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// Counts those that hit.
    pub(super) fn hits(&self) -> usize {
        self.counts.values().map(|count| count.hit).sum()
    }

    /// Returns kinds of which none hit.
    pub(super) fn missing(&self) -> Vec<Fault> {
        let hit = |fault: &Fault| self.counts.get(fault).is_some_and(|count| count.hit > 0);
        Fault::ALL.into_iter().filter(|fault| !hit(fault)).collect()
    }

    /// Lets the next one strike after a moment, and returns when the cluster is whole again. It hit if devices were being updated, and
    /// what failed was in use.
    #[track_caller]
    pub(super) fn strike(&mut self, cluster: &mut Cluster, bucket: &RelayedBucket) {
        let fault = self.left.pop().expect("no faults are left");
        self.pause(200..1_200);
        let active = "SELECT count(*) FROM deployments WHERE standing = 'active'";
        let is_updating = || (cluster.count(active) > 0).then_some(());
        let updating = eventually_or(Duration::from_secs(5), is_updating).is_some();
        let number = self.rng.random_range(0..SERVERS);
        let mut count = self.counts.get(&fault).copied().unwrap_or_default();
        let was_in_use = match fault {
            Fault::Kill | Fault::KillForLong | Fault::Freeze => {
                let writes = cluster.freeze_in_a_write(number);
                let leases = cluster.held(number);
                count.writes += writes;
                count.leases += leases;
                self.server(cluster, fault, number);
                writes > 0 && leases > 0
            }
            Fault::DatabaseStops | Fault::DatabaseDies => {
                let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'otaru'";
                let sessions = cluster.count(sessions);
                self.database(cluster, fault);
                sessions >= SERVERS
            }
            Fault::BrokerRestarts => {
                cluster.broker = None;
                self.pause(0..1_000);
                cluster.begin_broker();
                true
            }
            Fault::BucketRefuses => self.bucket(cluster, bucket, Mood::Refuses, 0..2_000),
            Fault::BucketStalls => self.bucket(cluster, bucket, Mood::Stalls, 500..6_000),
        };
        count.struck += 1;
        count.hit += usize::from(was_in_use && updating);
        self.counts.insert(fault, count);
    }

    /// Ends the freeze of a server, one way or the other.
    #[track_caller]
    fn server(&mut self, cluster: &mut Cluster, fault: Fault, number: usize) {
        if fault == Fault::Freeze {
            self.pause(2_000..12_000);
            cluster.servers[number].program.as_ref().unwrap().thaw();
            return;
        }
        drop(cluster.take(number));
        // Its leases last for eight seconds.
        self.pause(if fault == Fault::Kill { 0..1_000 } else { 9_000..11_000 });
        cluster.begin(number);
    }

    #[track_caller]
    fn database(&mut self, cluster: &mut Cluster, fault: Fault) {
        match fault {
            Fault::DatabaseDies => cluster.postgres.kill(),
            _ => cluster.postgres.shut_down(),
        }
        self.pause(0..2_000);
        cluster.postgres.go_on();
    }

    /// Says whether a server asked the bucket meanwhile for a file.
    fn bucket(
        &mut self,
        cluster: &Cluster,
        bucket: &RelayedBucket,
        mood: Mood,
        longer: std::ops::Range<u64>,
    ) -> bool {
        let before = bucket.relay.hits();
        bucket.relay.set(mood);
        cluster.forget_copies();
        let was_asked = || (bucket.relay.hits() > before).then_some(());
        let hit = eventually_or(Duration::from_secs(15), was_asked).is_some();
        self.pause(longer);
        bucket.relay.set(Mood::Passes);
        hit
    }

    fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(milliseconds)));
    }
}

/// Tells for each kind how many hit, of how many.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, Count { struck, hit, leases, writes }) in &self.counts {
            write!(f, "\n  {fault:?}: {hit} of {struck} hit")?;
            if *leases > 0 {
                write!(f, ", with {leases} leases and {writes} open writes")?;
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// Freezes a server in the middle of a write, or, where it does not write for a while, at some moment. Returns how many writes are open.
    fn freeze_in_a_write(&self, number: usize) -> usize {
        let server = self.servers[number].program.as_ref().unwrap();
        let mut tries = 60;
        loop {
            server.freeze();
            let writes = self.open_writes(server.id());
            tries -= 1;
            if writes > 0 || tries == 0 {
                return writes;
            }
            server.thaw();
            std::thread::sleep(Duration::from_millis(7));
        }
    }

    /// Counts the sessions of a process that have, or wait for, the lock of those that write.
    fn open_writes(&self, process: u32) -> usize {
        let ports = ports(process).iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.locktype = 'advisory' AND a.client_port IN (-1, {ports})"
        );
        psql(&self.url, &sql).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Returns the ports at this end of a process's connections over IPv4.
fn ports(process: u32) -> BTreeSet<u16> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let sockets: BTreeSet<String> = files
        .filter_map(|file| {
            let name = std::fs::read_link(file.path()).ok()?.display().to_string();
            Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |row: &str| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (local, socket) = (columns.get(1)?, columns.get(9)?);
        let is_own = sockets.contains(*socket);
        is_own.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok()).flatten()
    };
    table.lines().skip(1).filter_map(port).collect()
}
