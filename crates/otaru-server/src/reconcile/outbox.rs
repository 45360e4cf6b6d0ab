//! Sends what devices are to be told.
//!
//! A row is written with the transition that asks for it and deleted when the broker has it. In between the server may be
//! killed: then it is sent again, which a device does not mind. Rows of one device go in their order, those of many at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use otaru_format::command::{Offer, ReportRequest};
use otaru_format::digest::Digest;
use otaru_format::topic::Topics;
use otaru_rollout::{DeviceId, OfferId, RolloutId, Time};

use crate::app::{App, Shared};
use crate::db::{Connection, DbError, ToValue as _, params};
use crate::releases;
use crate::rollouts::deployments;
use crate::rollouts::transaction::{Message, RolloutTransaction};
use crate::rollouts::unreadable::{left_out, parse};

/// Rows that are looked at at once.
const BATCH: u32 = 1_000;
/// Rows that one statement deletes.
const DELETED: usize = 50;
/// Devices that are told something at the same time.
const AT_ONCE: usize = 256;
/// The first pause while the broker is away, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Interval of looking for rows without being woken; and where other servers write some, too.
const LOOKS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(500));

/// Time after which the broker forgets a request, where it can: a device that comes later reports by itself.
pub(super) const REQUEST_EXPIRY: Duration = Duration::from_secs(60);
/// Seconds within which each of them answers.
const SPREAD: u16 = 1;

/// Writes what asks a device to report; none where there is too little room.
pub(super) fn report_request(buf: &mut [u8]) -> Option<&[u8]> {
    ReportRequest { spread: SPREAD }.emit_json(buf).map(str::as_bytes)
}

/// A way to the broker.
pub trait Publish: Send + Sync {
    /// Gives it a message, at QoS 1, and waits until it has it. The broker is to forget it after `expiry`.
    fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        expiry: Duration,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Why messages wait.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The broker did not take one.
    #[error("{0}")]
    Broker(String),
}

impl SendError {
    /// Whether the log has it already.
    const fn is_told(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_outage())
    }
}

/// A row, ready to be sent.
#[derive(Debug)]
struct OutboxMessage {
    id: i64,
    device: DeviceId,
    /// `None` when there is nothing to say any more.
    text: Option<Vec<u8>>,
    expiry: Duration,
    /// The rollout whose offer has no file to name.
    without_file: Option<RolloutId>,
}

/// Sends until the server ends.
pub async fn run(app: Shared, bus: impl Publish) {
    let mut pause = PAUSES.0;
    loop {
        let wait = match send_all(&app, &bus).await {
            Ok(()) => {
                pause = PAUSES.0;
                if app.holdings.id().is_some() { LOOKS.1 } else { LOOKS.0 }
            }
            Err(why) => {
                if !app.stop.is_cancelled() && !why.is_told() {
                    tracing::warn!(%why, "offers wait");
                }
                let wait = pause;
                pause = (pause * 2).min(PAUSES.1);
                // Bells do not help against a broker that is away.
                tokio::select! {
                    () = app.stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
        };
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = app.wake.outbox.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sends what there is, until there is nothing more.
///
/// # Errors
/// Why it cannot go on just now.
pub async fn send_all(app: &Shared, bus: &impl Publish) -> Result<(), SendError> {
    // Rows that cannot be read stay, for whoever can.
    let mut passed = 0;
    loop {
        let now = app.clock.now();
        let reader = app.clone();
        let from = passed;
        let (messages, last) = app.db.read(move |tx| messages(tx, &reader, from, now)).await?;
        let Some(last) = last else { return Ok(()) };
        passed = last;
        end_without_file(app, &messages).await?;
        let (sent, failed) = send(app, bus, messages).await;
        forget(app, sent).await?;
        if let Some(why) = failed {
            return Err(SendError::Broker(why));
        }
    }
}

/// Ends attempts that have no file, rather than have them time out.
async fn end_without_file(app: &Shared, messages: &[OutboxMessage]) -> Result<(), DbError> {
    let lost = messages.iter().filter_map(|row| Some((row.without_file?, row.device.clone())));
    let lost: Vec<_> = lost.collect();
    if lost.is_empty() {
        return Ok(());
    }
    let now = app.clock.now();
    let ended = app.db.write(move |tx| {
        let mut transaction = RolloutTransaction::open(tx, now);
        for (rollout, device) in &lost {
            transaction.end_without_file(*rollout, device)?;
        }
        transaction.finish()
    });
    ended.await?.tell(app);
    Ok(())
}

/// Gives back which rows are done with, and why the rest is not.
async fn send(app: &Shared, bus: &impl Publish, messages: Vec<OutboxMessage>) -> (Vec<i64>, Option<String>) {
    let mut by_device: BTreeMap<DeviceId, VecDeque<OutboxMessage>> = BTreeMap::new();
    for row in messages {
        by_device.entry(row.device.clone()).or_default().push_back(row);
    }
    let mut waiting = by_device.into_iter();
    let (mut under_way, mut sent, mut failed) = (FuturesUnordered::new(), Vec::new(), None);
    loop {
        while under_way.len() < AT_ONCE && failed.is_none() {
            let Some((device, messages)) = waiting.next() else { break };
            under_way.push(tell(app, bus, device, messages));
        }
        let Some((done, why)) = under_way.next().await else { return (sent, failed) };
        sent.extend(done);
        failed = failed.or(why);
    }
}

async fn tell(
    app: &Shared,
    bus: &impl Publish,
    device: DeviceId,
    messages: VecDeque<OutboxMessage>,
) -> (Vec<i64>, Option<String>) {
    let mut sent = Vec::new();
    let Ok(topics) = Topics::new(&app.config.base, device.as_str()) else {
        // No device can have such a name; nobody would hear it.
        return (messages.iter().map(|row| row.id).collect(), None);
    };
    for row in messages {
        // It may have become another server's while this one stood still: that one sends what counts now.
        if !app.holdings.has_device(device.as_str()) {
            break;
        }
        if let Some(text) = &row.text {
            if let Err(why) = bus.publish(&topics.update_one(), text, row.expiry).await {
                return (sent, Some(why));
            }
            app.metrics.sent.inc();
        }
        sent.push(row.id);
    }
    (sent, None)
}

async fn forget(app: &Shared, ids: Vec<i64>) -> Result<(), DbError> {
    app.db
        .write(move |tx| {
            // Two statements, whatever their number: connections keep what they have prepared.
            let (many, few) = ids.as_chunks::<DELETED>();
            let sql = format!("DELETE FROM outbox WHERE id IN ({})", ["?"; DELETED].join(", "));
            let delete = tx.prepare(&sql);
            for some in many {
                delete.execute(some.map(|id| id.to_value()).to_vec())?;
            }
            let delete = tx.prepare("DELETE FROM outbox WHERE id = ?");
            few.iter().try_for_each(|id| delete.execute([id]).map(drop))
        })
        .await
}

/// Returns what the rows after this one say, those left out that cannot be read, and the number of the last row; none where there is no more.
fn messages(
    tx: &Connection,
    app: &App,
    after: i64,
    now: Time,
) -> Result<(Vec<OutboxMessage>, Option<i64>), DbError> {
    // Rows are many only while nothing can be sent; those of other servers are skipped.
    let own = match app.holdings.shards() {
        None => String::from("TRUE"),
        Some(shards) => {
            let shards = shards.iter().map(|shard| shard.0.to_string()).collect::<Vec<_>>().join(", ");
            format!("(shard IS NULL OR shard IN ({}))", if shards.is_empty() { "-1" } else { &shards })
        }
    };
    let sql = format!("SELECT id, device, message FROM outbox WHERE id > ? AND {own} ORDER BY id LIMIT ?");
    let rows = tx.prepare(&sql);
    let found = rows.query_map(params![after, BATCH], |row| {
        Ok((row.get::<i64>(0)?, row.get::<String>(1)?, row.get::<String>(2)?))
    })?;
    let (mut messages, mut files, mut last) = (Vec::new(), Files::default(), None);
    for row in found {
        let (id, device, message) = row?;
        last = Some(id);
        let device = DeviceId::from(device.as_str());
        let name = format_args!("message {id} to {device}").to_string();
        let Some(message) = left_out(parse::<Message>("outbox.message", name, &message))? else { continue };
        let row = OutboxMessage { id, device, text: None, expiry: Duration::ZERO, without_file: None };
        let base = app.device_bases.of(app.connections.is_over_tls(row.device.as_str()));
        messages.extend(left_out(compose(tx, row, message, &mut files, base, now))?);
    }
    Ok((messages, last))
}

/// Files of the images that a batch of messages names: mostly one.
#[derive(Default)]
struct Files(BTreeMap<Digest, ImageFile>);

/// File of an image.
#[derive(Clone)]
struct ImageFile {
    /// Path that devices are sent to, unless there is none.
    path: Option<String>,
    is_signed: bool,
}

impl Files {
    fn of(&mut self, tx: &Connection, image: Digest) -> Result<ImageFile, DbError> {
        if let Some(file) = self.0.get(&image) {
            return Ok(file.clone());
        }
        let path = releases::url_for(tx, image, "")?;
        let file = ImageFile { path, is_signed: releases::rows::is_signed(tx, image)? };
        self.0.insert(image, file.clone());
        Ok(file)
    }
}

/// Writes what to say, and until when it is worth hearing.
fn compose(
    tx: &Connection,
    row: OutboxMessage,
    message: Message,
    files: &mut Files,
    base: &str,
    now: Time,
) -> Result<OutboxMessage, DbError> {
    /// A cancellation that comes later than this finds nothing to cancel.
    const CANCEL: Duration = Duration::from_secs(3_600);
    match message {
        Message::Cancel { .. } => {
            Ok(OutboxMessage { text: Some(b"{\"cancel\":true}".to_vec()), expiry: CANCEL, ..row })
        }
        Message::Report {} => {
            let mut buf = [0; 64];
            let text = report_request(&mut buf).map(<[u8]>::to_vec);
            Ok(OutboxMessage { text, expiry: REQUEST_EXPIRY, ..row })
        }
        Message::Offer { rollout, start, image, force } => {
            let id = OfferId { rollout, start };
            let Some((ends, order)) = stands(tx, &row.device, id)? else { return Ok(row) };
            let file = files.of(tx, image)?;
            let Some(path) = file.path else {
                tracing::error!(device = %row.device, %image, "an offer has no file; its attempt ends");
                return Ok(OutboxMessage { without_file: Some(rollout), ..row });
            };
            let (name, url) = (id.to_string(), format!("{base}{path}"));
            let force = force && !file.is_signed;
            let offer = Offer { url: &url, image: Some(image), deployment: Some(&name), force, order };
            let text =
                serde_json::to_vec(&offer).map_err(|error| DbError::corrupt("outbox.message", error))?;
            let expiry = Duration::from_millis(ends.since(now).0.max(1_000));
            Ok(OutboxMessage { text: Some(text), expiry, ..row })
        }
    }
}

/// Until when an offer stands, if it still does, and its order.
fn stands(
    tx: &Connection,
    device: &DeviceId,
    offer: OfferId,
) -> Result<Option<(Time, Option<u64>)>, DbError> {
    let Some((deployment, order)) = deployments::with_order(tx, offer, device)? else { return Ok(None) };
    let stands = deployment.awaits_offer() && deployment.starts() == offer.start;
    Ok(deployment.wake_at().filter(|_| stands).map(|ends| (ends, order)))
}

/// Returns what a device that asks is to be told: the offer that stands for it.
pub fn standing_offer(
    tx: &Connection,
    device: &DeviceId,
    base: &str,
) -> Result<Option<serde_json::Value>, DbError> {
    for id in deployments::open_for_device(tx, device)? {
        let (Some(kept), Some((deployment, _))) =
            (crate::rollouts::rows::readable(tx, id)?, deployments::readable(tx, id, device)?)
        else {
            continue;
        };
        if let Some(otaru_rollout::Effect::Offer { offer, image, force, .. }) =
            deployment.standing_offer(&kept.rollout)
            && let Some(url) = releases::url_for(tx, image, base)?
        {
            let (name, order) = (offer.to_string(), deployments::order_of(tx, offer, device)?);
            let force = force && !releases::rows::is_signed(tx, image)?;
            let offer = Offer { url: &url, image: Some(image), deployment: Some(&name), force, order };
            return Ok(serde_json::to_value(offer).ok());
        }
    }
    Ok(None)
}
