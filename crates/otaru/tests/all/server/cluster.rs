//! Three servers over one PostgreSQL and one broker, and what goes wrong there: no device lost, no deployment doubled, nothing stale followed.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use otaru_testing::postgres::{Postgres, psql};
use otaru_testing::{LIMIT, Program, eventually, free_port, have, program, run};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::otaru;
use crate::server::fleet::{LONG, firmware_in, phase, standing};

const SERVERS: usize = 3;

/// Returns a number that the environment may set to another.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Server {
    http: u16,
    program: Option<Program>,
}

/// Servers that share everything, their devices' broker, and a user.
struct Cluster {
    dir: TempDir,
    postgres: Postgres,
    url: String,
    mqtt: u16,
    broker: Option<Program>,
    servers: Vec<Server>,
    token: String,
}

impl Cluster {
    /// Starts all; skips the test loudly where PostgreSQL or Mosquitto is missing.
    #[track_caller]
    fn start() -> Option<Self> {
        if !have(&["mosquitto"]) {
            return None;
        }
        let postgres = Postgres::start()?;
        let url = postgres.create("fleet");
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            dir,
            postgres,
            url,
            mqtt: free_port(),
            broker: None,
            servers: Vec::new(),
            token: String::new(),
        };
        let config =
            format!("listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n", cluster.mqtt);
        std::fs::write(cluster.dir.path().join("mosquitto.conf"), config).unwrap();
        cluster.begin_broker();
        for number in 0..SERVERS {
            cluster.servers.push(Server { http: free_port(), program: None });
            cluster.begin(number);
        }
        Some(cluster)
    }

    fn begin_broker(&mut self) {
        let mut command = program("mosquitto");
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        self.broker = Some(Program::server(command, self.mqtt));
    }

    /// Starts a server, for the first time or again.
    #[track_caller]
    fn begin(&mut self, number: usize) {
        let http = self.servers[number].http;
        let path = |name: &str| self.dir.path().join(name);
        let mut command =
            otaru(&["serve", "--json", "--http", &format!("127.0.0.1:{http}"), "--database", &self.url]);
        command.arg("--data").arg(path(&format!("data{number}"))).arg("--artifacts").arg(path("firmware"));
        command.args(["--mqtt", &format!("mqtt://127.0.0.1:{}", self.mqtt)]);
        let server = Program::server(command, http);
        let first: Value = serde_json::from_str(&server.says("\"event\":\"listening\"")).unwrap();
        if let Some(token) = first["token"].as_str() {
            token.clone_into(&mut self.token);
        }
        self.servers[number].program = Some(server);
    }

    fn user(&self, number: usize, args: &[&str]) -> Command {
        let mut command = otaru(args);
        command.env("OTARU_SERVER", format!("http://127.0.0.1:{}", self.servers[number].http));
        command.env("OTARU_TOKEN", &self.token).env("HOME", self.dir.path()).env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a command of a user at a server; it must succeed.
    #[track_caller]
    fn does(&self, number: usize, args: &[&str]) -> String {
        run(self.user(number, args)).with_code(0).out
    }

    /// Returns what a command says as JSON, or nothing if the server is away.
    fn asks(&self, number: usize, args: &[&str]) -> Option<Value> {
        let ended = run(self.user(number, &[args, &["--json"]].concat()));
        serde_json::from_str(ended.out.lines().next()?).ok()
    }

    #[track_caller]
    fn firmware(&self, size: &str, version: &str, behaviour: &str) -> String {
        firmware_in(self.dir.path(), size, version, behaviour)
    }

    /// Starts virtual devices and waits until the servers know them.
    #[track_caller]
    fn devices(&self, firmware: &str, count: usize, speed: &str) -> Program {
        let broker = format!("mqtt://127.0.0.1:{}", self.mqtt);
        let mut command =
            otaru(&["sim", "--json", "--speed", speed, "--broker", &broker, "--firmware", firmware]);
        command.args(["--devices", &count.to_string()]);
        let devices = Program::start(command);
        eventually("all devices to be known", LONG, || {
            (self.count("SELECT count(*) FROM devices WHERE reachable") == count).then_some(())
        });
        devices
    }

    /// Returns a number from the database.
    #[track_caller]
    fn count(&self, sql: &str) -> usize {
        psql(&self.url, sql).unwrap().parse().unwrap()
    }

    /// Returns the shards of each server, by its URL, as one of them tells.
    fn shards(&self, number: usize) -> Option<BTreeMap<String, u64>> {
        let servers = self.asks(number, &["servers"])?;
        let items = servers["items"].as_array()?;
        Some(
            items
                .iter()
                .map(|item| (item["name"].to_string(), item["shards"].as_u64().unwrap_or(0)))
                .collect(),
        )
    }

    /// Waits until every server has its part.
    #[track_caller]
    fn balanced(&self, servers: usize) {
        eventually("each server to have its part of the shards", LIMIT, || {
            let shards = self.shards(self.living())?;
            let least = 256 / u64::try_from(servers).unwrap_or(1);
            let is = shards.len() == servers
                && shards.values().sum::<u64>() == 256
                && shards.values().all(|has| *has >= least);
            is.then_some(())
        });
    }

    fn living(&self) -> usize {
        self.servers.iter().position(|server| server.program.is_some()).unwrap()
    }

    #[track_caller]
    fn rollout(&self, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, LONG, || {
            let rollout = self.asks(self.living(), &["rollout", "show", id])?;
            is(&rollout).then_some(rollout)
        })
    }

    /// Returns whether a server held leases and how many writes were open just now.
    fn held(&self, number: usize) -> usize {
        let port = self.servers[number].http;
        let sql = format!(
            "SELECT count(*) FROM leases l JOIN servers s ON s.id = l.server WHERE s.name LIKE '%:{port}'"
        );
        psql(&self.url, &sql).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// Returns how often each device started each version, as the devices themselves tell.
fn boots(devices: &Program) -> BTreeMap<(String, String), usize> {
    let mut boots = BTreeMap::new();
    for line in devices.lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
        if event["event"] == "boot" {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            *boots.entry((text("device"), text("version"))).or_default() += 1;
        }
    }
    boots
}

#[test]
fn shards_are_shared_and_a_server_that_dies_is_replaced_within_ten_seconds() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.balanced(SERVERS);
    let old = cluster.firmware("40K", "1.0.0", "healthy");
    let new = cluster.firmware("40K", "1.1.0", "healthy");
    let _devices = cluster.devices(&old, 30, "20");
    // Whichever server is asked.
    cluster.does(1, &["release", "upload", &new]);
    cluster.servers[0].program = None;
    let died = Instant::now();
    eventually("the others to have all", LIMIT, || {
        let shards = cluster.shards(1)?;
        (shards.len() == 2 && shards.values().sum::<u64>() == 256).then_some(())
    });
    println!("replaced after {:.1} s", died.elapsed().as_secs_f32());
    cluster.does(2, &["rollout", "create", "lamp@1.1.0"]);
    let rollout = cluster.rollout("1", "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), 30, "{rollout}");
    // One that is stopped in order gives its part away at once; one that comes back has its part again.
    cluster.begin(0);
    cluster.balanced(SERVERS);
    cluster.servers[1].program.take().unwrap().interrupt();
    cluster.balanced(SERVERS - 1);
}

#[test]
fn an_ended_token_is_good_nowhere_within_a_second() {
    let Some(cluster) = Cluster::start() else { return };
    let made: Value = serde_json::from_str(&cluster.does(0, &["token", "create", "t", "--json"])).unwrap();
    let text = made["text"].as_str().unwrap().to_owned();
    let ask = |number: usize| {
        let mut command = cluster.user(number, &["devices"]);
        command.env("OTARU_TOKEN", &text);
        run(command).code
    };
    // Each server has it in mind.
    assert_eq!([ask(0), ask(1), ask(2)], [Some(0); 3]);
    cluster.does(1, &["token", "revoke", made["id"].as_str().unwrap()]);
    std::thread::sleep(Duration::from_secs(1));
    assert!([ask(0), ask(1), ask(2)].iter().all(|code| *code != Some(0)));
}

#[test]
fn a_server_with_a_broker_of_its_own_is_refused_beside_others() {
    let Some(cluster) = Cluster::start() else { return };
    let mut command = otaru(&[
        "serve",
        "--http",
        "127.0.0.1:0",
        "--mqtt-listen",
        "127.0.0.1:0",
        "--database",
        &cluster.url,
    ]);
    command
        .arg("--data")
        .arg(cluster.dir.path().join("other"))
        .arg("--artifacts")
        .arg(cluster.dir.path().join("firmware"));
    run(command).with_code(1).tells("give all servers the same --mqtt");
}

/// Faults of the chaos, each with how to see that it hit.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
    DatabaseStops,
    DatabaseDies,
    BrokerRestarts,
}

#[test]
fn whatever_fails_each_device_is_updated_once() {
    let Some(mut cluster) = Cluster::start() else { return };
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let (count, faults) = (setting("OTARU_CLUSTER_DEVICES", 150), setting("OTARU_CLUSTER_FAULTS", 14));
    let old = cluster.firmware("40K", "1.0.0", "healthy");
    let new = cluster.firmware("600K", "1.1.0", "healthy");
    cluster.does(0, &["release", "upload", &new]);
    let devices = cluster.devices(&old, count, "6");
    let waves = ["--wave", "20", "--wave", "50%", "--concurrency", "4", "--timeout", "2m", "--stop", "100%"];
    cluster.does(0, &[&["rollout", "create", "lamp@1.1.0"][..], &waves].concat());
    let mut hits = BTreeMap::<String, usize>::new();
    for _ in 0..faults {
        std::thread::sleep(Duration::from_millis(rng.random_range(300..2_000)));
        let fault = [
            Fault::Kill,
            Fault::Kill,
            Fault::Freeze,
            Fault::DatabaseStops,
            Fault::DatabaseDies,
            Fault::BrokerRestarts,
        ][rng.random_range(0..6)];
        let number = rng.random_range(0..SERVERS);
        let held = cluster.held(number);
        let running = cluster.count("SELECT count(*) FROM rollouts WHERE phase = 'running'");
        let hit = match fault {
            Fault::Kill | Fault::Freeze => held > 0 && running > 0,
            _ => running > 0,
        };
        *hits.entry(format!("{fault:?}")).or_default() += usize::from(hit);
        strike(&mut cluster, fault, number, &mut rng);
    }
    println!("hits {hits:?}");
    assert!(hits.values().sum::<usize>() * 2 > faults, "the rollout was over too soon: {hits:?}");
    let rollout = cluster.rollout("1", "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(standing(&rollout, "succeeded"), count as u64, "{rollout}");
    for ((device, version), times) in boots(&devices) {
        assert_eq!(times, 1, "{device} started {version} {times} times");
    }
    assert_eq!(cluster.count("SELECT count(*) FROM deployments WHERE standing = 'succeeded'"), count);
    assert_eq!(
        cluster.count("SELECT count(*) FROM devices WHERE version = '1.1.0' AND active IS NULL"),
        count
    );
    eventually("the outbox to be empty", LIMIT, || {
        (cluster.count("SELECT count(*) FROM outbox") == 0).then_some(())
    });
}

#[track_caller]
fn strike(cluster: &mut Cluster, fault: Fault, number: usize, rng: &mut SmallRng) {
    match fault {
        Fault::Kill => {
            cluster.servers[number].program = None;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..1_000)));
            cluster.begin(number);
        }
        Fault::Freeze => {
            let server = cluster.servers[number].program.as_ref().unwrap();
            server.freeze();
            std::thread::sleep(Duration::from_millis(rng.random_range(2_000..14_000)));
            server.thaw();
        }
        Fault::DatabaseStops | Fault::DatabaseDies => {
            match fault {
                Fault::DatabaseDies => cluster.postgres.kill(),
                _ => cluster.postgres.shut_down(),
            }
            std::thread::sleep(Duration::from_millis(rng.random_range(0..2_000)));
            cluster.postgres.go_on();
        }
        Fault::BrokerRestarts => {
            cluster.broker = None;
            std::thread::sleep(Duration::from_millis(rng.random_range(0..1_000)));
            cluster.begin_broker();
        }
    }
}
