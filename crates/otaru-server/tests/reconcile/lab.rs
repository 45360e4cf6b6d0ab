//! A server's parts without its listeners: a clock that is set, a bus that keeps what it is given, devices that are played.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otaru_api::Role;
use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, Status, UpdateState};
use otaru_rollout::{Control, DeviceId, Phase, Rollout, RolloutId, RolloutSpec, Tally, Time};
use otaru_server::address::{DeviceBases, Listening};
use otaru_server::app::{App, Parts, Shared};
use otaru_server::artifacts::Artifacts;
use otaru_server::caller::Caller;
use otaru_server::clock::Clock;
use otaru_server::cluster::Holdings;
use otaru_server::config::{Config, MqttConfig};
use otaru_server::db::{Db, DbError, Location};
use otaru_server::http::Limits;
use otaru_server::problem::Problem;
use otaru_server::reconcile::outbox::{Publish, send_all};
use otaru_server::reconcile::work::{Memory, pass};
use otaru_server::reconcile::{Came, sweep, take_presence, take_report};
use otaru_server::releases::{Keys, UploadLimits};
use otaru_server::rollouts::operate::{self, Brings};
use otaru_server::rollouts::{deployments, rows};
use otaru_server::statement_params as params;
use otaru_testing::postgres::Database;
use otaru_tls::Trust;
use serde_json::Value;
use tempfile::TempDir;

/// Start of every story.
pub(crate) const START: u64 = 1_800_000_000_000;

/// The parts.
pub(crate) struct Lab {
    pub(crate) app: Shared,
    memory: Memory,
    now: Arc<AtomicU64>,
    bus: FakePublisher,
    dir: TempDir,
    database: Database,
    /// Whether reports come as they are made, not out of the broker's keep.
    pub(crate) live: bool,
}

/// Keeps what it is given, unless it is away.
#[derive(Default)]
pub(crate) struct FakePublisher {
    pub(crate) sent: Mutex<Vec<(String, Value)>>,
    pub(crate) away: std::sync::atomic::AtomicBool,
}

impl Publish for FakePublisher {
    async fn publish(&self, topic: &str, payload: &[u8], expiry: Duration) -> Result<(), String> {
        if self.away.load(Ordering::Relaxed) {
            return Err("away".into());
        }
        assert!(!expiry.is_zero());
        self.sent.lock().unwrap().push((topic.to_owned(), serde_json::from_slice(payload).unwrap()));
        Ok(())
    }
}

pub(crate) fn image(version: &str) -> Digest {
    Digest::of(version.as_bytes())
}

pub(crate) fn operator() -> Caller {
    Caller { token: "t".into(), name: "somebody".into(), role: Role::Operator }
}

fn open(dir: &TempDir, database: &Database, now: &Arc<AtomicU64>) -> Shared {
    let clock = Arc::clone(now);
    let here = "127.0.0.1:0".parse().unwrap();
    Arc::new(App::new(Parts {
        config: Config {
            data: PathBuf::new(),
            database: None,
            http: here,
            tls: None,
            mqtt: MqttConfig::embedded(here),
            base: "ESP32/ota".into(),
            public_url: None,
            trusted_proxies: Vec::new(),
            dev: true,
            guests: false,
            signing_key: None,
            trusted_keys: Vec::new(),
            device_limits: otaru_server::devices::bounds::Bounds::default(),
            upload_limits: UploadLimits::default(),
            http_limits: Limits::default(),
            metrics: None,
            artifacts: Default::default(),
            download_memory: otaru_server::artifacts::DEFAULT_MEMORY,
            home_assistant: None,
        },
        db: Db::open(Location::parse(database.location(), Trust::default()).unwrap()).unwrap(),
        artifacts: Artifacts::open(&dir.path().join("artifacts"), 1 << 20).unwrap(),
        keys: Keys::default(),
        holdings: Holdings::everything(),
        clock: Clock::new(move || Time(clock.load(Ordering::Relaxed))),
        public_base: "http://server".into(),
        device_bases: DeviceBases::new("http://server", Listening { http: None, https: None }),
    }))
}

impl Lab {
    /// Releases 1.0.0, 1.1.0 and 1.2.0 are there: their ids are 1, 2 and 3.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(START));
        let database = Database::at(&dir.path().join("otaru.db"));
        let app = open(&dir, &database, &now);
        app.db
            .write(|tx| {
                for version in ["1.0.0", "1.1.0", "1.2.0"] {
                    let digest = image(version).0;
                    tx.execute("INSERT INTO artifacts (digest, size, used_at) VALUES (?, 1, 1)", [digest])?;
                    tx.execute(
                        "INSERT INTO releases (image, product, version, chip, image_size, raw, created_at, created_by)
                         VALUES (?1, 'lamp', ?2, 'esp32c3', 1, ?1, 1, 'x')",
                        params![digest, version],
                    )?;
                }
                Ok::<_, DbError>(())
            })
            .await
            .unwrap();
        Self {
            app,
            memory: Memory::default(),
            now,
            bus: FakePublisher::default(),
            dir,
            database,
            live: false,
        }
    }

    /// As if another process took over: nothing but the database is left.
    pub(crate) fn restart(&mut self) {
        self.app = open(&self.dir, &self.database, &self.now);
        self.memory = Memory::default();
    }

    /// As if another process took over, and there is no other server: nobody has heard devices since.
    pub(crate) async fn restart_alone(&mut self) {
        self.restart();
        self.app.db.write(|tx| sweep::begin(tx, "")).await.unwrap();
        assert!(sweep::run(&self.app).await);
        self.check().await;
    }

    /// Time passes, or is set back.
    pub(crate) fn shift(&self, milliseconds: i64) {
        let now = self.now.load(Ordering::Relaxed);
        self.now.store(now.saturating_add_signed(milliseconds), Ordering::Relaxed);
    }

    /// Everything is done that can be; messages go out.
    pub(crate) async fn work(&mut self) {
        pass(&self.app, &mut self.memory).await.unwrap();
        let _ = send_all(&self.app, &self.bus).await;
        self.check().await;
    }

    /// Every active deployment looks at the clock, as it does every hour.
    pub(crate) async fn tick_all(&self) {
        otaru_server::reconcile::work::tick_all(&self.app).await.unwrap();
    }

    pub(crate) fn broker_is_away(&self, away: bool) {
        self.bus.away.store(away, Ordering::Relaxed);
    }

    /// Messages that were sent since it was last asked, to this device.
    pub(crate) fn sent(&self, device: &str) -> Vec<Value> {
        let topic = format!("ESP32/ota/{device}/update");
        let mut sent = self.bus.sent.lock().unwrap();
        let (hers, others) = std::mem::take(&mut *sent).into_iter().partition(|(to, _)| *to == topic);
        *sent = others;
        let hers: Vec<(String, Value)> = hers;
        hers.into_iter().map(|(_, message)| message).collect()
    }

    /// A device is there and reports.
    pub(crate) async fn reports(
        &self,
        device: &str,
        state: UpdateState,
        version: &str,
        deployment: Option<&str>,
    ) {
        self.reports_with(device, state, version, deployment, None).await;
    }

    pub(crate) async fn reports_with(
        &self,
        device: &str,
        state: UpdateState,
        version: &str,
        deployment: Option<&str>,
        error: Option<Code>,
    ) {
        self.report(device, Self::status(device, state, version, deployment, error)).await;
    }

    pub(crate) async fn report(&self, device: &str, report: Status<String>) {
        let came = if self.live { Came::Live } else { Came::Kept };
        take_report(&self.app, &DeviceId::from(device), report, true, came).await.unwrap();
    }

    /// Report of a device, for more to be added.
    pub(crate) fn status(
        device: &str,
        state: UpdateState,
        version: &str,
        deployment: Option<&str>,
        error: Option<Code>,
    ) -> Status<String> {
        Status {
            device: device.to_owned(),
            chip: "esp32c3".to_owned(),
            state,
            project: "lamp".to_owned(),
            product: None,
            version: version.to_owned(),
            image: image(version),
            slot: 0,
            confirmed: state != UpdateState::Trial,
            progress: None,
            attempt: 0,
            deployment: deployment.map(str::to_owned),
            error: error.map(|code| Fault { code, detail: "so it is".to_owned() }),
            failed: None,
            guards_lost: false,
            left_tls: false,
            tls: None,
            boot: "software".to_owned(),
            uptime: 1,
            rssi: None,
            free_heap: None,
            free_stack: None,
            order: None,
            epoch: None,
            boots: None,
            n: None,
        }
    }

    pub(crate) async fn comes(&self, device: &str, online: bool) {
        take_presence(&self.app, &DeviceId::from(device), online, true, true).await.unwrap();
    }

    /// Names of the devices that are there.
    pub(crate) async fn there(&self) -> Vec<String> {
        let there = self.app.db.read(|tx| {
            let rows = tx.prepare("SELECT id FROM devices WHERE reachable ORDER BY id");
            rows.query_map((), |row| row.get(0))?.collect()
        });
        there.await.unwrap()
    }

    /// Devices on 1.0.0 that are there.
    pub(crate) async fn fleet(&self, devices: &[&str]) {
        for device in devices {
            self.comes(device, true).await;
            self.reports(device, UpdateState::Idle, "1.0.0", None).await;
        }
    }

    /// A rollout of a release, started.
    pub(crate) async fn roll_out(&self, release: i64, more: Value) -> RolloutId {
        let made = self.app.db.write(move |tx| {
            let (goal, release) = operate::goal(tx, Brings::Release(release))?;
            let mut spec = more.clone();
            spec["goal"] = serde_json::to_value(goal).unwrap();
            let spec: RolloutSpec = serde_json::from_value(spec).unwrap();
            let now = Time(START);
            let (kept, _) = operate::create(tx, &operator(), "a rollout", release, spec, false, now)?;
            Ok::<_, Problem>(kept.rollout.id())
        });
        made.await.unwrap()
    }

    pub(crate) async fn control(&self, id: RolloutId, control: Control) -> Result<(), Problem> {
        let now = self.app.clock.now();
        let done = self.app.db.write(move |tx| operate::control(tx, &operator(), id, control, now));
        done.await.map(drop)
    }

    pub(crate) async fn rollout(&self, id: RolloutId) -> Rollout {
        self.app.db.read(move |tx| rows::get(tx, id)).await.unwrap().unwrap().rollout
    }

    pub(crate) async fn phase(&self, id: RolloutId) -> Phase {
        self.rollout(id).await.phase()
    }

    /// Returns the standing of a device's deployment.
    pub(crate) async fn standing(&self, id: RolloutId, device: &str) -> String {
        let device = DeviceId::from(device);
        let found = self.app.db.read(move |tx| deployments::get(tx, id, &device)).await.unwrap();
        found.map_or_else(|| "none".into(), |(deployment, _)| deployment.standing().as_str().to_owned())
    }

    /// Checks the invariants, which hold at any moment.
    pub(crate) async fn check(&self) {
        let checked = self.app.db.read(|tx| {
            let twice: i64 = tx.query_row(
                "SELECT count(*) FROM (SELECT device FROM deployments WHERE standing IN ('active', 'retrying') GROUP BY device
                                       HAVING count(*) > 1) AS twice",
                (),
                |row| row.get(0),
            )?;
            assert_eq!(twice, 0, "a device has two active deployments");
            let astray: i64 = tx.query_row(
                "SELECT (SELECT count(*) FROM deployments p JOIN devices d ON d.id = p.device
                          WHERE p.standing IN ('active', 'retrying') AND d.active IS DISTINCT FROM p.rollout)
                      + (SELECT count(*) FROM devices d WHERE d.active IS NOT NULL AND NOT EXISTS
                          (SELECT 1 FROM deployments p WHERE p.device = d.id AND p.rollout = d.active AND p.standing IN ('active', 'retrying')))",
                (),
                |row| row.get(0),
            )?;
            assert_eq!(astray, 0, "a device's row and its deployments disagree");
            let mut counted: BTreeMap<i64, BTreeMap<(i64, String), u32>> = BTreeMap::new();
            let rows = tx.prepare("SELECT rollout, wave, standing, count(*) FROM deployments GROUP BY 1, 2, 3");
            rows.query_map((), |row| {
                counted.entry(row.get(0)?).or_default().insert((row.get(1)?, row.get(2)?), row.get(3)?);
                Ok(())
            })?;
            for kept in rows::list(tx, None, None, 1_000)? {
                let counted = counted.remove(&rows::key(kept.rollout.id())).unwrap_or_default();
                for (wave, tally) in (0_i64..).zip(kept.rollout.tallies()) {
                    let said: BTreeMap<String, u32> = said(tally);
                    for (standing, count) in said {
                        let is = counted.get(&(wave, standing.clone())).copied().unwrap_or(0);
                        assert_eq!(count, is, "{:?} wave {wave}: {standing}", kept.rollout.id());
                    }
                }
            }
            // Nothing is known of those that cannot be read.
            counted.retain(|id, _| rows::get(tx, RolloutId(id.cast_unsigned())).is_ok());
            assert!(counted.is_empty());
            Ok::<_, DbError>(())
        });
        checked.await.unwrap();
    }
}

fn said(tally: &Tally) -> BTreeMap<String, u32> {
    serde_json::from_value(serde_json::to_value(tally).unwrap()).unwrap()
}
