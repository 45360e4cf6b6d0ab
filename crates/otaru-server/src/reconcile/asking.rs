//! Asks devices to report that were not heard since the broker was reached.
//!
//! What devices said last is retained, but not every broker keeps it, gives it to a subscription with wildcards, or still has it after a
//! restart; and a device that stays connected says nothing by itself then. Only devices whose reports are numbered are asked: older
//! ones take the request for a command that they do not understand.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use otaru_format::topic::Topics;
use otaru_rollout::{Span, Time};
use tokio::sync::Notify;

use super::outbox::{Publish, REQUEST_EXPIRY, report_request};
use super::sweep::POLLED;
use crate::app::Shared;
use crate::db::{Connection, DbError, params};

/// Time in which retained messages come by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// Devices that are asked each second.
const PER_SECOND: u32 = 500;
/// Requests under way at the same time.
const AT_ONCE: usize = 64;
/// Shortest time between two rounds.
const ROUNDS: Duration = Duration::from_secs(60);

/// Time before a device that reported over HTTP is taken to be gone, in which it is asked: twice or three times.
const NOTICE: Span = Span::minutes(3);

/// Devices that are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that were not heard.
    Silent,
    /// Those that are there by a report over HTTP, and soon are not: a device that is connected all the time answers.
    Polled,
    /// All: what some of them said may have been heard by a server that is gone, and taken in by none.
    All,
}

/// Asks once now, and again each time when the broker is `back` or devices were another server's, until the server ends; and those that reported
/// over HTTP before they are taken to be gone.
pub async fn run(app: Shared, bus: impl Publish, back: &Notify) {
    tokio::join!(ask_after_breaks(&app, &bus, back), ask_polled(&app, &bus));
}

async fn ask_polled(app: &Shared, bus: &impl Publish) {
    loop {
        tokio::time::sleep(ROUNDS).await;
        if let Err(error) = ask_all(app, bus, Scope::Polled).await
            && !error.is_outage()
        {
            tracing::warn!(%error, "devices that reported over HTTP cannot be asked to report");
        }
    }
}

async fn ask_after_breaks(app: &Shared, bus: &impl Publish, back: &Notify) {
    let mut taken_over = app.wake.shards.subscribe();
    let mut scope = Scope::Silent;
    loop {
        if scope == Scope::Silent {
            tokio::time::sleep(GRACE).await;
        }
        match ask_all(app, bus, scope).await {
            Ok(0) => {}
            Ok(asked) => tracing::info!(asked, "devices are asked to report"),
            Err(error) => {
                if !error.is_outage() {
                    tracing::warn!(%error, "devices cannot be asked to report; trying again");
                }
                // All of them once more: those that were asked say the same again.
                tokio::time::sleep(GRACE).await;
                continue;
            }
        }
        let later = async {
            tokio::time::sleep(ROUNDS).await;
            back.notified().await;
        };
        scope = tokio::select! {
            () = later => Scope::Silent,
            _ = taken_over.changed() => Scope::All,
        };
    }
}

/// Asks all of this server's in a scope. Returns how many those are.
///
/// # Errors
/// Those of the database.
pub async fn ask_all(app: &Shared, bus: &impl Publish, scope: Scope) -> Result<usize, DbError> {
    let mut buf = [0; 64];
    let Some(request) = report_request(&mut buf) else { return Ok(0) };
    let (mut after, mut asked) = (String::new(), 0);
    loop {
        let from = after.clone();
        let now = app.clock.now();
        let batch = app.db.read(move |tx| next(tx, scope, &from, now)).await?;
        let Some(last) = batch.last() else { return Ok(asked) };
        after.clone_from(last);
        let own: Vec<_> = batch.into_iter().filter(|id| app.holdings.has_device(id)).collect();
        if own.is_empty() {
            continue;
        }
        let pause = tokio::time::sleep(Duration::from_secs(1));
        asked += ask(app, bus, own, request).await;
        pause.await;
    }
}

/// Asks these devices, some at the same time. Returns how many of the requests the broker took.
async fn ask(app: &Shared, bus: &impl Publish, devices: Vec<String>, request: &[u8]) -> usize {
    let (mut under_way, mut asked) = (FuturesUnordered::new(), 0);
    let mut take = |result: Result<(), String>| match result {
        Ok(()) => asked += 1,
        Err(why) => tracing::debug!(%why, "a device cannot be asked to report"),
    };
    for device in devices {
        if under_way.len() >= AT_ONCE
            && let Some(result) = under_way.next().await
        {
            take(result);
        }
        let Ok(topics) = Topics::new(&app.config.base, &device) else { continue };
        let topic = topics.update_one();
        under_way.push(async move { bus.publish(&topic, request, REQUEST_EXPIRY).await });
    }
    while let Some(result) = under_way.next().await {
        take(result);
    }
    asked
}

/// Returns the next devices in a scope that number their reports.
fn next(tx: &Connection, scope: Scope, after: &str, now: Time) -> Result<Vec<String>, DbError> {
    let which = match scope {
        Scope::Silent => "AND NOT reachable".to_owned(),
        Scope::Polled => {
            let before = now.0.saturating_sub(POLLED.0).saturating_add(NOTICE.0);
            format!("AND reachable AND id IN (SELECT id FROM devices WHERE polled_at < {before})")
        }
        Scope::All => String::new(),
    };
    let sql = format!(
        "SELECT id FROM devices WHERE id > ? AND retired_at IS NULL {which} AND epochs <> '' ORDER BY id LIMIT ?"
    );
    let rows = tx.prepare(&sql);
    rows.query_map(params![after, PER_SECOND], |row| row.get(0))?.collect()
}
