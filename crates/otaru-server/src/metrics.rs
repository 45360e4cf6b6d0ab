//! Figures for Prometheus.

use std::time::Duration;

use otaru_rollout::{Rollout, Standing, Time};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::db::{Connection, Db, DbError};
use crate::problem::Problem;

/// Media type of the text (OpenMetrics 1.0.0).
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of the requests that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The route's pattern, not the path: few of them.
    pub route: String,
    /// The status of the answer.
    pub status: u16,
}

/// One label: its name and its value.
type Label = [(&'static str, String); 1];

/// Two of them: a broker's question, and its answer.
type Answered = [(&'static str, &'static str); 2];

/// Figures that are counted while the server runs.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Answered requests.
    pub requests: Family<Request, Counter>,
    /// Time until answers began, in seconds.
    pub latency: Histogram,
    /// Connections and requests for which there was no room.
    pub turned_away: Counter,
    /// Bytes of firmware that were sent.
    pub downloaded: Counter,
    /// Messages that came from the broker.
    pub received: Counter,
    /// Reports that changed something.
    pub reports: Counter,
    /// Messages that were given to the broker.
    pub sent: Counter,
    broker_questions: Family<Answered, Counter>,
    certificate_ends: Family<Label, Gauge<i64>>,
    device_authorities: Gauge<i64>,
    counts: Counts,
}

/// Figures that are counted anew in the database for each scrape.
#[derive(Debug, Default)]
struct Counts {
    devices: Family<Label, Gauge<i64>>,
    reachable: Gauge<i64>,
    rollouts: Family<Label, Gauge<i64>>,
    deployments: Family<Label, Gauge<i64>>,
    outbox: Gauge<i64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("otaru");
        let metrics = Self {
            requests: Family::default(),
            latency: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            turned_away: Counter::default(),
            downloaded: Counter::default(),
            received: Counter::default(),
            reports: Counter::default(),
            sent: Counter::default(),
            broker_questions: Family::default(),
            certificate_ends: Family::default(),
            device_authorities: Gauge::default(),
            counts: Counts::default(),
            registry: Registry::default(),
        };
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        let latency = metrics.latency.clone();
        registry.register_with_unit("http_latency", "Time until an answer began", Unit::Seconds, latency);
        let turned_away = metrics.turned_away.clone();
        registry.register("http_turned_away", "Connections and requests without room", turned_away);
        let downloaded = metrics.downloaded.clone();
        registry.register_with_unit("downloaded", "Firmware that was sent", Unit::Bytes, downloaded);
        registry.register("mqtt_received", "Messages from the broker", metrics.received.clone());
        registry.register("mqtt_sent", "Messages to the broker", metrics.sent.clone());
        let questions = metrics.broker_questions.clone();
        registry.register("broker_questions", "Questions of a broker that asks who may do what", questions);
        registry.register("reports", "Reports that changed something", metrics.reports.clone());
        registry.register_with_unit(
            "tls_certificate_expiration_timestamp",
            "End of the TLS certificate in use, since 1970",
            Unit::Seconds,
            metrics.certificate_ends.clone(),
        );
        registry.register(
            "tls_device_authorities",
            "Authorities of devices' certificates that are trusted",
            metrics.device_authorities.clone(),
        );
        let counts = &metrics.counts;
        registry.register("devices", "Devices by state", counts.devices.clone());
        registry.register("devices_reachable", "Devices that can be reached", counts.reachable.clone());
        registry.register("rollouts", "Rollouts by phase", counts.rollouts.clone());
        registry.register("deployments_open", "Deployments that are not over", counts.deployments.clone());
        registry.register("outbox", "Messages that wait for the broker", counts.outbox.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// Notes an answer.
    pub fn answered(&self, request: Request, took: Duration) {
        self.requests.get_or_create(&request).inc();
        self.latency.observe(took.as_secs_f64());
    }

    /// Notes the answer to a broker's question; `None` where it could not be decided on.
    pub fn broker_asked<E>(&self, question: &'static str, decision: Option<&Result<(), E>>) {
        let answer = match decision {
            Some(Ok(())) => "allow",
            Some(Err(_)) => "deny",
            None => "unknown",
        };
        self.broker_questions.get_or_create(&[("question", question), ("answer", answer)]).inc();
    }

    /// Notes the end of the certificate in use, which came from there.
    pub fn certificate_ends(&self, source: &'static str, ends: Time) {
        let seconds = i64::try_from(ends.0 / 1_000).unwrap_or(i64::MAX);
        self.certificate_ends.get_or_create(&[("source", source.to_owned())]).set(seconds);
    }

    /// Notes the number of authorities whose certificates devices may log in with.
    pub fn device_authorities(&self, count: usize) {
        self.device_authorities.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Returns everything as text, with what the database counts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn scrape(&self, db: &Db) -> Result<String, Problem> {
        let counted = db.read(count).await?;
        self.counts.set(&counted);
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(|error| Problem::internal(&error))?;
        Ok(text)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    devices: Vec<(String, i64)>,
    reachable: i64,
    rollouts: Vec<(String, i64)>,
    deployments: Vec<(String, i64)>,
    outbox: i64,
}

fn count(tx: &Connection) -> Result<Counted, DbError> {
    let groups = |sql: &str| -> Result<Vec<(String, i64)>, DbError> {
        let rows = tx.prepare(sql);
        let groups = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        groups.collect::<Result<_, _>>()
    };
    let one = |sql: &str| -> Result<i64, DbError> { tx.prepare(sql).query_row((), |row| row.get(0)) };
    Ok(Counted {
        devices: groups("SELECT state, count(*) FROM devices WHERE retired_at IS NULL GROUP BY state")?,
        reachable: one("SELECT count(*) FROM devices WHERE retired_at IS NULL AND reachable")?,
        rollouts: groups("SELECT phase, count(*) FROM rollouts GROUP BY phase")?,
        deployments: open_deployments(tx)?,
        outbox: one("SELECT count(*) FROM outbox")?,
    })
}

/// From the books that rollouts keep: deployments themselves are too many to be counted for each scrape.
fn open_deployments(tx: &Connection) -> Result<Vec<(String, i64)>, DbError> {
    let rows = tx.prepare("SELECT state FROM rollouts WHERE phase NOT IN ('completed', 'draft')");
    let mut sum =
        [(Standing::Ready, 0), (Standing::Waiting, 0), (Standing::Active, 0), (Standing::Retrying, 0)];
    for state in rows.query_map((), |row| row.get::<String>(0))? {
        // Whoever carries on with rollouts tells of one that cannot be read.
        let Ok(rollout) = serde_json::from_str::<Rollout>(&state?) else { continue };
        for tally in rollout.tallies() {
            for ((_, count), more) in
                sum.iter_mut().zip([tally.ready, tally.waiting, tally.active, tally.retrying])
            {
                *count += i64::from(more);
            }
        }
    }
    Ok(sum.into_iter().map(|(standing, count)| (standing.as_str().to_owned(), count)).collect())
}

impl Counts {
    fn set(&self, counted: &Counted) {
        let fill = |family: &Family<Label, Gauge<i64>>, label, groups: &[(String, i64)]| {
            family.clear();
            for (value, count) in groups {
                family.get_or_create(&[(label, value.clone())]).set(*count);
            }
        };
        fill(&self.devices, "state", &counted.devices);
        fill(&self.rollouts, "phase", &counted.rollouts);
        fill(&self.deployments, "standing", &counted.deployments);
        self.reachable.set(counted.reachable);
        self.outbox.set(counted.outbox);
    }
}
