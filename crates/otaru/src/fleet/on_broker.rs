//! A fleet asked over its broker: what is kept there, and an end to updates.

use std::collections::BTreeSet;
use std::time::Duration;

use otaru_broker::client::{Incoming, Mqtt};
use otaru_format::command::ReportRequest;
use otaru_format::status::UpdateState;
use otaru_format::topic::Topics;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Change, Fleet};
use crate::signals;

/// Longest time that devices may take to tell that they cancelled: they write commands to flash once in ten seconds at most.
const CANCELLING: Duration = Duration::from_secs(15);

/// Silence after which a broker has no more that it has kept.
const SILENCE: Duration = Duration::from_millis(400);
/// Silence after which no device answers any more: each does within a second of its own clock, and a round trip.
const ANSWER: Duration = Duration::from_millis(1_500);

/// Sends `cancel` to these devices, each at its own topic, and takes what is reported until all have ended or `limit` is over. Gives
/// back those for which it is too late: they are restarting, and run the new image or the old one whatever they are told.
pub(crate) async fn cancel(
    mqtt: &mut Mqtt,
    fleet: &mut Fleet,
    base: &str,
    names: &[String],
    mut heard: impl FnMut(&Fleet, &Change),
) -> anyhow::Result<Vec<String>> {
    let is_late = |fleet: &Fleet, name: &str| {
        let state = fleet.status(name).map(|status| status.state);
        matches!(state, Some(UpdateState::Restarting | UpdateState::Trial))
    };
    let (late, open): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| is_late(fleet, name));
    for name in &open {
        mqtt.publish(&Topics::new(base, name)?.update_one(), "cancel", false).await?;
    }
    let mut open: BTreeSet<String> = open.into_iter().collect();
    let deadline = Instant::now() + CANCELLING;
    let stop = signals::stop();
    tokio::pin!(stop);
    while !open.is_empty() {
        let incoming = tokio::select! {
            () = &mut stop => break,
            () = sleep_until(deadline) => break,
            incoming = mqtt.next() => incoming,
        };
        let Incoming::Message(message) = incoming else { continue };
        let Some(change) = fleet.take(&message.topic, &message.payload) else { continue };
        if let Change::Report(name) = &change
            && fleet.status(name).is_some_and(|status| !status.state.is_under_way() || is_late(fleet, name))
        {
            open.remove(name);
        }
        heard(fleet, &change);
    }
    let mut late: BTreeSet<String> = late.into_iter().collect();
    late.extend(names.iter().filter(|name| is_late(fleet, name)).cloned());
    Ok(late.into_iter().collect())
}

/// Collects what the broker has kept about devices: all that comes before a short silence. Where it has kept nothing, as one that gives
/// no retained messages to wildcards, devices are asked to report.
pub(crate) async fn look_around(mqtt: &mut Mqtt, fleet: &mut Fleet, base: &str) -> anyhow::Result<()> {
    for filter in fleet.filters() {
        mqtt.subscribe(&filter).await?;
    }
    hear(mqtt, fleet, SILENCE).await;
    if fleet.iter().next().is_none() {
        let mut buf = [0; 64];
        let request = ReportRequest { spread: 0 }.emit_json(&mut buf).unwrap_or_default();
        // Whoever may not publish has heard all that there is.
        if mqtt.publish(&Topics::new(base, "x")?.update_all(), request, false).await.is_ok() {
            hear(mqtt, fleet, ANSWER).await;
        }
    }
    Ok(())
}

/// Takes what comes until so long nothing does, for 5 s at most.
async fn hear(mqtt: &mut Mqtt, fleet: &mut Fleet, silence: Duration) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        match timeout(silence, mqtt.next()).await {
            Err(_) => break,
            Ok(Incoming::Message(message)) => {
                fleet.take(&message.topic, &message.payload);
            }
            Ok(Incoming::Lost(_) | Incoming::Back | Incoming::Missed(_)) => {}
        }
    }
}
