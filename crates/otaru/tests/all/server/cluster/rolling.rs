//! All servers are replaced, one after the other, while devices update and users work: nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use otaru_testing::{LIMIT, Program, eventually, have, program, run};
use serde_json::{Value, json};

use super::balancer::Balancer;
use super::relay::Relay;
use super::{Cluster, SERVERS, starts};
use crate::server::fleet::{LONG, phase, standing};

const DEVICES: usize = 150;
/// Users who work at the same time.
const USERS: usize = 3;

/// Requests of users, and what became of them.
#[derive(Default)]
struct Work {
    done: usize,
    retried: Vec<String>,
    failed: Vec<String>,
    made: BTreeSet<String>,
}

/// A user who reads and makes things until `stop`; a request that fails is tried once more, at another server.
fn work(user: usize, token: &str, balancer: &Balancer, stop: &AtomicBool, work: &Mutex<Work>) {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build();
    let agent = ureq::Agent::new_with_config(config);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("draft {user} {number}");
        let ask = |port: u16| {
            let base = format!("http://127.0.0.1:{port}/api/v1");
            let authorization = format!("Bearer {token}");
            let answer = match number % 3 {
                0 => {
                    let order =
                        json!({"name": name, "release": 1, "target": {"product": "lamp"}, "draft": true});
                    let request =
                        agent.post(format!("{base}/rollouts")).header("authorization", authorization);
                    let request = request.header("idempotency-key", &name).content_type("application/json");
                    request.send(order.to_string())
                }
                1 => agent
                    .get(format!("{base}/devices?limit=20"))
                    .header("authorization", authorization)
                    .call(),
                _ => agent.get(format!("{base}/rollouts/1")).header("authorization", authorization).call(),
            };
            let answer = answer.and_then(|answer| answer.into_body().read_to_string());
            answer.map_err(|error| format!("request {number} at {port}: {error}"))
        };
        let first = balancer.choose(None);
        let (answer, failed) = match ask(first) {
            Ok(answer) => (Ok(answer), None),
            Err(error) => (ask(balancer.choose(Some(first))), Some(error)),
        };
        let mut work = work.lock().unwrap();
        work.retried.extend(failed);
        match answer {
            Ok(_) if number % 3 == 0 => drop(work.made.insert(name)),
            Ok(_) => {}
            Err(error) => work.failed.push(error),
        }
        work.done += 1;
        drop(work);
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Cluster {
    /// Replaces every server by one that starts, in order: the next when the one before is ready again.
    #[track_caller]
    fn replace_all(&mut self, balancer: &Balancer) {
        for number in 0..SERVERS {
            let began = Instant::now();
            self.take(number).unwrap().interrupt();
            let stopped = began.elapsed();
            self.begin(number);
            let port = self.servers[number].http;
            eventually("it to be ready", LIMIT, || balancer.is_ready(port).then_some(()));
            let (stopped, back) = (stopped.as_secs_f32(), began.elapsed().as_secs_f32());
            println!("server {number} stopped within {stopped:.1} s and was ready again after {back:.1} s");
        }
    }

    /// Returns the last report of each device, as the broker kept it.
    #[track_caller]
    fn reports_at_the_broker(&self, count: usize) -> BTreeMap<String, Value> {
        let mut listen = program("mosquitto_sub");
        listen.args(["-h", "127.0.0.1", "-p", &self.mqtt.to_string(), "-t", "ESP32/ota/+/status"]);
        listen.args(["-W", "30", "-C", &count.to_string()]);
        let said = run(listen).with_code(0).out;
        said.lines().map(|line| of_report(line.to_owned())).collect()
    }

    /// Returns the last report of each device, as the database has it.
    #[track_caller]
    fn reports_in_the_database(&self) -> BTreeMap<String, Value> {
        let rows = self.rows("SELECT id, report FROM devices WHERE report IS NOT NULL");
        rows.into_values().map(of_report).collect()
    }
}

/// Returns the device of a report, and what it says but for figures that change all the time.
fn of_report(text: String) -> (String, Value) {
    let report: Value = serde_json::from_str(&text).unwrap();
    let device = report["device"].as_str().unwrap().to_owned();
    let kept =
        ["state", "version", "image", "slot", "confirmed", "deployment", "order", "error", "epoch", "boots"];
    (
        device,
        kept.map(|name| (name.to_owned(), report[name].clone()))
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
            .into(),
    )
}

/// Counts how often each device connected, as the broker's log has it.
fn connections(broker: &Program) -> BTreeMap<String, usize> {
    let mut connections = BTreeMap::new();
    for line in broker.lines() {
        let Some((_, client)) = line.split_once("New client connected from ") else { continue };
        let Some(device) = client.split_whitespace().find(|word| word.starts_with("sim-")) else { continue };
        *connections.entry(device.to_owned()).or_default() += 1;
    }
    connections
}

/// Reports of failures, as the devices' simulator tells them.
fn troubles(devices: &Program) -> Vec<String> {
    let is_trouble = |line: &String| {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return false };
        event["event"] == "status"
            && (event["status"]["state"] == "retrying" || !event["status"]["error"].is_null())
    };
    devices.lines().into_iter().filter(is_trouble).collect()
}

#[test]
fn all_servers_are_replaced_under_load_and_nobody_notices() {
    if !have(&["mosquitto_sub"]) {
        return;
    }
    let Some(mut cluster) = Cluster::prepare() else { return };
    let balancer = Balancer::start(cluster.servers.iter().map(|server| server.http).collect());
    let chosen = std::sync::Arc::clone(&balancer);
    let downloads = Relay::start(move || chosen.connect(), |_| false);
    let public = format!("http://127.0.0.1:{}", downloads.port);
    cluster.more = ["--public-url", &public, "--drain", "2s"].map(str::to_owned).to_vec();
    cluster.begin_all();
    let old = cluster.firmware("40K", "1.0.0", "healthy");
    let new = cluster.firmware("600K", "1.1.0", "healthy");
    cluster.does(0, &["release", "upload", &new]);
    let devices = cluster.devices(&old, DEVICES, "6", &[]);
    cluster.does(0, &["rollout", "create", "lamp@1.1.0", "--concurrency", "4"]);

    let (stop, done, token) = (AtomicBool::new(false), Mutex::new(Work::default()), cluster.token.clone());
    let under_way = std::thread::scope(|scope| {
        for user in 0..USERS {
            let (token, balancer, stop, done) = (&token, &balancer, &stop, &done);
            scope.spawn(move || work(user, token, balancer, stop, done));
        }
        // The others see the end of a test that fails here, too.
        let _stop = StopAtEnd(&stop);
        cluster.replace_all(&balancer);
        // And without a word to the load balancer, which finds connections refused: those that stop last have no `--drain`.
        cluster.more = ["--public-url", &public].map(str::to_owned).to_vec();
        cluster.replace_all(&balancer);
        cluster.replace_all(&balancer);
        cluster.count("SELECT count(*) FROM deployments WHERE is_open")
    });
    let Work { done, retried, failed, made } = done.into_inner().unwrap();
    println!(
        "{done} requests, {} of them twice: {retried:?}; {under_way} devices were still to be updated",
        retried.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
    assert!(under_way > 0, "the rollout was over too soon");
    let there = cluster.rows("SELECT name, count(*) FROM rollouts WHERE phase = 'draft' GROUP BY 1");
    assert!(there.values().all(|count| count == "1"), "{there:?}");
    assert_eq!(there.into_keys().collect::<BTreeSet<_>>(), made, "what was acknowledged is there, once");

    let rollout =
        cluster.rollout("1", "the rollout to complete", LONG, |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), DEVICES as u64, "{rollout}");
    let troubles = troubles(&devices);
    assert!(troubles.is_empty(), "{troubles:?}");
    let booted = starts(&devices);
    assert!(booted.values().flatten().all(|(_, times)| *times == 1), "{booted:?}");
    // Each start connects, and nothing else makes a device do so.
    let booted: BTreeMap<String, usize> =
        booted.into_iter().map(|(device, started)| (device, started.len())).collect();
    assert_eq!(connections(cluster.broker.as_ref().unwrap()), booted);
    let said = cluster.reports_at_the_broker(DEVICES);
    eventually("each device's last report to be in the database", LIMIT, || {
        (cluster.reports_in_the_database() == said).then_some(())
    });
}

/// Sets a flag when it is dropped.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
