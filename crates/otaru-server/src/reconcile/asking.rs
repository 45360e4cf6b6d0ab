//! Asks devices to report that were not heard since the broker was reached.
//!
//! What devices said last is retained, but not every broker keeps it, gives it to a subscription with wildcards, or still has it after a
//! restart; and a device that stays connected says nothing by itself then. Only devices whose reports are numbered are asked: older
//! ones take the request for a command that they do not understand.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use otaru_format::command::ReportRequest;
use otaru_format::topic::Topics;
use rusqlite::{Connection, params};
use tokio::sync::Notify;

use super::outbox::Publish;
use crate::app::Shared;
use crate::db::DbError;

/// Time in which retained messages come by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// Devices that are asked each second.
const PER_SECOND: u32 = 500;
/// Requests under way at the same time.
const AT_ONCE: usize = 64;
/// Seconds within which each of them answers.
const SPREAD: u16 = 1;
/// Time after which the broker forgets a request, where it can: a device that comes later reports by itself.
const EXPIRY: Duration = Duration::from_secs(60);
/// Shortest time between two rounds.
const ROUNDS: Duration = Duration::from_secs(60);

/// Asks once now, and again each time when the broker is `back`, until the server ends.
pub async fn run(app: Shared, bus: impl Publish, back: &Notify) {
    loop {
        tokio::time::sleep(GRACE).await;
        match ask_all(&app, &bus).await {
            Ok(0) => {}
            Ok(asked) => tracing::info!(asked, "devices that were not heard are asked to report"),
            Err(why) => tracing::warn!(%why, "devices cannot be asked to report"),
        }
        tokio::time::sleep(ROUNDS).await;
        back.notified().await;
    }
}

/// Asks all that were not heard. Returns how many those are.
async fn ask_all(app: &Shared, bus: &impl Publish) -> Result<usize, String> {
    let mut buf = [0; 64];
    let Some(request) = ReportRequest { spread: SPREAD }.emit_json(&mut buf) else { return Ok(0) };
    let (mut after, mut asked) = (String::new(), 0);
    loop {
        let from = after.clone();
        let batch = app.db.read(move |tx| silent(tx, &from)).await.map_err(|error| error.to_string())?;
        let Some(last) = batch.last() else { return Ok(asked) };
        after.clone_from(last);
        let pause = tokio::time::sleep(Duration::from_secs(1));
        let topics = batch.iter().filter_map(|device| Topics::new(&app.config.base, device).ok());
        let topics: Vec<String> = topics.map(|topics| topics.update_one().to_string()).collect();
        let each = topics.iter().map(|topic| bus.publish(topic, request.as_bytes(), EXPIRY));
        let results: Vec<Result<(), String>> = stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
        let refused = results.iter().filter_map(|result| result.as_ref().err());
        asked += results.iter().filter(|result| result.is_ok()).count();
        if let Some(why) = refused.last() {
            tracing::warn!(%why, "devices cannot be asked to report");
        }
        pause.await;
    }
}

/// Returns the next devices that are not there and number their reports.
fn silent(tx: &Connection, after: &str) -> Result<Vec<String>, DbError> {
    let sql = "SELECT id FROM devices WHERE id > ? AND retired_at IS NULL AND NOT reachable AND epochs <> ''
               ORDER BY id LIMIT ?";
    let mut rows = tx.prepare_cached(sql)?;
    Ok(rows.query_map(params![after, PER_SECOND], |row| row.get(0))?.collect::<Result<_, _>>()?)
}
