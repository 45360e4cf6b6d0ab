//! Keeps this server known to those that share its database, and its leases renewed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::StartError;
use crate::app::Shared;
use crate::cluster::leases::{self, Lease, Leased, Member};
use crate::cluster::notices;
use crate::config::{ArtifactsConfig, MqttConfig};
use crate::data_dir::DataDir;
use crate::db::{Connection, DbError};

/// Interval of renewing leases and of taking what is free.
const ROUND: Duration = Duration::from_secs(1);

/// Returns this server, as others see it; `None` where it has the database to itself.
pub(super) fn of(app: &Shared, http: SocketAddr) -> Option<Member> {
    let id = app.holdings.id()?.to_owned();
    let broker = match &app.config.mqtt {
        MqttConfig::Embedded { .. } => format!("its own, of {id}"),
        MqttConfig::External { url, .. } => {
            format!("{}:{} with topics under {}", url.host, url.port, app.config.base)
        }
    };
    let firmware = match &app.config.artifacts {
        ArtifactsConfig::Own => format!("the data folder {} of {id}", absolute(&app.config.data)),
        ArtifactsConfig::Folder(folder) => absolute(folder),
        ArtifactsConfig::S3(bucket) => bucket.place.to_string(),
    };
    Some(Member {
        id,
        firmware,
        name: name(http),
        signer: app.keys.signer().map(|key| key.public().id().to_string()).unwrap_or_default(),
        broker,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: 0,
        seen_at: 0,
        shards: 0,
        tasks: Vec::new(),
    })
}

/// Returns the machine's name and the port of HTTP: the beginning of URLs may be that of what stands in front.
fn name(http: SocketAddr) -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{machine}:{}", http.port())
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Its place among those that share the database, when it starts.
pub(super) struct Joined {
    /// Number of the last notice.
    pub(super) notice: i64,
    /// Whether no other is there, so that nobody has heard devices until now.
    pub(super) alone: bool,
}

/// Makes this server one of those that share the database, with its part of the leases.
///
/// # Errors
/// When devices would hear one of two brokers only, and when the database fails.
pub(super) async fn join(app: &Shared, me: &Member, data: &DataDir) -> Result<Joined, StartError> {
    let (began, joining, before) = (Instant::now(), me.clone(), data.last_server());
    data.note_server(&me.id)?;
    let joined = app.db.write(move |tx| {
        let now = leases::now(tx)?;
        // Whoever had this folder is gone: nobody need wait for the end of its leases.
        if let Some(before) = &before {
            leases::leave(tx, before)?;
        }
        if let Some(other) = leases::unlike(tx, &joining, now)? {
            return Ok(Err(other));
        }
        leases::be_seen(tx, &joining, now)?;
        let held = leases::renew(tx, &joining.id, now)?;
        let joined = Joined { notice: notices::last(tx)?, alone: leases::members(tx)?.len() == 1 };
        Ok::<_, DbError>(Ok((held, joined)))
    });
    match joined.await? {
        Ok((held, joined)) => {
            app.holdings.renewed(&held, began);
            Ok(joined)
        }
        Err(Member { name, broker, .. }) if broker != me.broker => {
            Err(StartError::OtherBroker { name, theirs: broker, ours: me.broker.clone() })
        }
        Err(Member { name, signer, .. }) if signer != me.signer => Err(StartError::OtherKey { name }),
        Err(Member { name, firmware, .. }) => {
            Err(StartError::OtherFirmware { name, theirs: firmware, ours: me.firmware.clone() })
        }
    }
}

/// Renews leases until the server ends, then gives them back.
pub(super) async fn run(app: Shared, me: Member) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = app.stop.cancelled() => break,
            () = app.readiness.left() => break,
            () = tokio::time::sleep(ROUND) => {}
        }
        match round(&app, &me).await {
            Ok(new) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the database answers again");
                }
                took(&app, &new);
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "leases are not renewed; if that goes on, other servers take this one's devices");
            }
            Err(_) => {}
        }
    }
    app.holdings.gone();
    let left = app.db.write(move |tx| leases::leave(tx, &me.id));
    if let Err(error) = left.await {
        tracing::warn!(%error, "other servers take over only when this one's leases end");
    }
}

async fn round(app: &Shared, me: &Member) -> Result<Vec<Leased>, DbError> {
    let (began, me) = (Instant::now(), me.clone());
    let renewing = app.db.write(move |tx: &Connection| {
        let now = leases::now(tx)?;
        leases::be_seen(tx, &me, now)?;
        leases::renew(tx, &me.id, now)
    });
    let held: Vec<Lease> = renewing.await?;
    Ok(app.holdings.renewed(&held, began))
}

/// Goes on with what another server did until now.
fn took(app: &Shared, new: &[Leased]) {
    if new.is_empty() {
        return;
    }
    let shards = new.iter().filter(|what| matches!(what, Leased::Shard(_))).count();
    tracing::info!(shards, tasks = new.len() - shards, "took over");
    app.wake.outbox.notify_one();
    app.wake.rollouts.notify_one();
    app.wake.jobs.notify_one();
    if shards > 0 {
        app.recent.forget_all();
        app.wake.shards.send_modify(|times| *times += 1);
    }
}
