//! Whatever fails, a fleet ends where it should: a release that crashes is stopped and undone by the devices it reached, and the good one
//! after it is started once by each.
//!
//! `OTARU_CLUSTER_DEVICES`, `OTARU_CLUSTER_FAULTS` and `OTARU_CLUSTER_SEED` change how much of it there is, and repeat a run's faults.

use std::time::{Duration, Instant};

use otaru_testing::{LIMIT, eventually, have};
use serde_json::{Value, json};

use super::bucket::RelayedBucket;
use super::faults::Faults;
use super::{Cluster, setting, starts};
use crate::server::fleet::{LONG, phase, standing};

/// Versions of the firmware: what devices have at first, what crashes, what is good.
const OLD: &str = "1.0.0";
const BAD: &str = "1.1.0";
const GOOD: &str = "1.2.0";

/// Numbers of a run.
#[derive(Debug, Clone, Copy)]
struct Size {
    devices: usize,
    faults: usize,
    concurrency: usize,
    /// Results after which the release that crashes is stopped.
    minimum: usize,
}

impl Size {
    fn of_run() -> Self {
        let devices = setting("OTARU_CLUSTER_DEVICES", 150);
        let faults = setting("OTARU_CLUSTER_FAULTS", 16);
        // Both rollouts are to last for as long as there are faults.
        Self { devices, faults, concurrency: (devices / 200).max(3), minimum: devices / 6 }
    }

    /// Returns the time that a rollout may take on a busy machine.
    fn patience(&self) -> Duration {
        LONG + Duration::from_millis(400) * u32::try_from(self.devices).unwrap()
    }
}

#[test]
fn whatever_fails_each_device_is_updated_once() {
    if !have(&["faketime"]) {
        return;
    }
    let Some(mut cluster) = Cluster::prepare() else { return };
    let Some(bucket) = RelayedBucket::start() else { return };
    let (size, seed) = (Size::of_run(), setting("OTARU_CLUSTER_SEED", rand::random::<u64>()));
    println!("seed {seed}, {size:?}");
    cluster.more = bucket.options(cluster.dir.path());
    cluster.servers[0].clock = Some("+15s");
    cluster.servers[2].clock = Some("-15s");
    cluster.begin_all();
    let apart = (cluster.time(0) - cluster.time(2)).num_seconds();
    println!("clocks of two servers are {apart} s apart");
    assert!(apart > 25, "{apart}");

    let old = cluster.firmware("40K", OLD, "healthy");
    for (version, behaviour) in [(BAD, "crash"), (GOOD, "healthy")] {
        let file = cluster.firmware("600K", version, behaviour);
        cluster.does(0, &["release", "upload", &file]);
    }
    let devices = cluster.devices(&old, size.devices, "6", &["--no-watch"]);
    let (mut faults, began) = (Faults::new(seed, size.faults), Instant::now());
    let bad = cluster.roll_out(size, BAD, 1, json!({"failures": 50, "minimum": size.minimum}));
    // Half of them at most; a slow machine takes its time.
    while faults.left() * 2 > size.faults && cluster.phase(bad) != "stopped" {
        faults.strike(&mut cluster, &bucket);
    }
    cluster.rollout(&bad.to_string(), "the release that crashes to be stopped", size.patience(), |it| {
        phase(it) == "stopped"
    });
    let of_bad = faults.hits();
    println!("{BAD} is stopped after {:.0} s and {of_bad} hits", began.elapsed().as_secs_f32());
    let good = cluster.roll_out(size, GOOD, 2, Value::Null);
    while faults.left() > 0 {
        faults.strike(&mut cluster, &bucket);
    }
    println!("all faults struck after {:.0} s:{faults}", began.elapsed().as_secs_f32());
    let done = cluster.rollout(&good.to_string(), "the good rollout to complete", size.patience(), |it| {
        phase(it) == "completed"
    });
    println!("{GOOD} is everywhere after {:.0} s", began.elapsed().as_secs_f32());
    assert!(of_bad > 0 && faults.hits() > of_bad, "both rollouts were hit:{faults}");
    assert!(faults.hits() * 2 > size.faults, "the rollouts were over too soon:{faults}");
    if size.faults >= 16 {
        assert!(faults.missing().is_empty(), "no hit of {:?}:{faults}", faults.missing());
    }
    assert_eq!(standing(&done, "succeeded"), size.devices as u64, "{done}");

    let reached = each_device_went_its_way(&devices);
    println!("{reached} devices started {BAD}, which was to stop after {} results", size.minimum);
    assert!(reached >= size.minimum, "{reached}");
    // A device that is under way when the rollout stops goes on.
    assert!(reached <= size.minimum + size.concurrency, "{reached} with {size:?}");
    cluster.counts_add_up(size, [bad, good], reached);
}

/// Looks at what each device started: at most once the release that crashes, and then back, and the good one exactly once, as the last. Returns
/// how many started the one that crashes.
#[track_caller]
fn each_device_went_its_way(devices: &otaru_testing::Program) -> usize {
    let mut reached = 0;
    for (device, started) in starts(devices) {
        let versions: Vec<&str> = started.iter().map(|(version, _)| &**version).collect();
        match *versions {
            [OLD, GOOD] => {}
            [OLD, BAD, OLD, GOOD] => reached += 1,
            _ => panic!("{device} started {started:?}"),
        }
        for (version, times) in started {
            assert!(times == 1 || version == BAD, "{device} started {version} {times} times in a row");
        }
    }
    reached
}

impl Cluster {
    /// Returns the time of day at a server.
    #[track_caller]
    fn time(&self, number: usize) -> chrono::DateTime<chrono::FixedOffset> {
        let answer = ureq::get(format!("http://127.0.0.1:{}/healthz", self.servers[number].http)).call();
        let date = answer.unwrap().headers()["date"].to_str().unwrap().to_owned();
        chrono::DateTime::parse_from_rfc2822(&date).unwrap()
    }

    fn phase(&self, rollout: u64) -> String {
        let shown = self.asks(self.living(), &["rollout", "show", &rollout.to_string()]);
        shown.map(|rollout| phase(&rollout).to_owned()).unwrap_or_default()
    }

    /// Makes a rollout in waves, with short pauses after attempts that fail. Returns its id: a database that died skips some.
    #[track_caller]
    fn roll_out(&self, size: Size, version: &str, release: u64, stop: Value) -> u64 {
        let gate = json!({"auto": {"success": 95}});
        let order = json!({
            "name": version, "release": release, "target": {"product": "lamp", "chips": ["esp32c3"]},
            "waves": [
                {"size": {"devices": size.minimum * 2}, "gate": gate}, {"size": {"percent": 50}, "gate": gate},
            ],
            "limits": {"concurrency": size.concurrency}, "stop": stop,
            "attempts": {"timeout": 120_000, "count": 10, "backoff": 1_000, "max_backoff": 5_000},
        });
        let made = eventually("a server to make a rollout", LIMIT, || {
            let url = format!("http://127.0.0.1:{}/api/v1/rollouts", self.servers[self.living()].http);
            let request = ureq::post(url).header("authorization", format!("Bearer {}", self.token));
            let request = request.header("idempotency-key", version).content_type("application/json");
            let answer = request.send(order.to_string()).inspect_err(|error| println!("{error}")).ok()?;
            serde_json::from_str::<Value>(&answer.into_body().read_to_string().ok()?).ok()
        });
        made["id"].as_u64().unwrap()
    }

    /// Looks at what the database has of both rollouts in the end.
    #[track_caller]
    fn counts_add_up(&self, size: Size, [first, second]: [u64; 2], reached: usize) {
        let devices = size.devices;
        // The good rollout took every device over that the other had not reached.
        let bad = self.standings(first);
        println!("deployments of {BAD}: {bad:?}; attempts of {GOOD}: {}", self.attempts(second));
        // Of two final reports that nobody could take in, the later counts: of a device that was offered the image once more that it refuses it.
        let ended = |name: &str| bad.get(name).copied().unwrap_or(0);
        assert_eq!(ended("rolled_back") + ended("refused"), reached, "{bad:?}");
        assert_eq!(ended("superseded"), devices - reached, "{bad:?}");
        assert_eq!(self.standings(second), [("succeeded".to_owned(), devices)].into());
        for rollout in [first, second] {
            let shown = self.asks(self.living(), &["rollout", "show", &rollout.to_string()]).unwrap();
            for (name, count) in self.standings(rollout) {
                assert_eq!(
                    standing(&shown, &name),
                    count as u64,
                    "the rollout counts what there is: {shown}"
                );
            }
        }
        assert_eq!(self.count("SELECT count(*) FROM deployments WHERE is_open"), 0);
        let there =
            format!("SELECT count(*) FROM devices WHERE version = '{GOOD}' AND confirmed AND active IS NULL");
        assert_eq!(self.count(&there), devices);
        assert_eq!(self.count("SELECT count(*) FROM devices"), devices);
        eventually("the outbox to be empty", LIMIT, || {
            (self.count("SELECT count(*) FROM outbox") == 0).then_some(())
        });
    }

    /// Returns how many deployments of a rollout stand where.
    #[track_caller]
    fn standings(&self, rollout: u64) -> std::collections::BTreeMap<String, usize> {
        let sql = format!("SELECT standing, count(*) FROM deployments WHERE rollout = {rollout} GROUP BY 1");
        self.rows(&sql).into_iter().map(|(name, count)| (name, count.parse().unwrap())).collect()
    }

    #[track_caller]
    fn attempts(&self, rollout: u64) -> usize {
        self.count(&format!("SELECT sum(starts) FROM deployments WHERE rollout = {rollout}"))
    }
}
