//! From a file that was received to a release.

use axum::http::StatusCode;
use bytes::Bytes;
use otaru_api::Event;
use otaru_rollout::Time;
use serde_json::json;
use tokio::sync::Semaphore;

use super::contents::{Contents, Kind, Refused};
use super::naming::Naming;
use super::register::{RegisterError, Registered, Stored, Upload, register};
use super::renaming;
use crate::access::audit;
use crate::app::App;
use crate::artifacts::{ArtifactError, Staged};
use crate::caller::Caller;
use crate::db::{Connection, DbError};
use crate::problem::Problem;

/// So many files are looked at in one process at the same time: each is in memory meanwhile.
static LOOKED_AT: Semaphore = Semaphore::const_new(2);

/// Why a file did not become a release.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It is no firmware that devices would take.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It does not fit what is there.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// It cannot be kept.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Refused(refused) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-firmware", refused.to_string())
            }
            AcceptError::Register(RegisterError::Db(error)) => error.into(),
            AcceptError::Register(error) => Self::conflict(error.to_string()),
            AcceptError::Artifact(error) => error.into(),
        }
    }
}

/// Makes a release of a file, or completes one, with its line in the audit log.
///
/// # Errors
/// When devices would refuse it, it contradicts what is there, or it cannot be kept. Then nothing of it is.
pub async fn accept(
    app: &App,
    staged: Staged,
    naming: Naming,
    notes: Option<String>,
    caller: Caller,
) -> Result<Registered, AcceptError> {
    // Closed, it never is.
    let _turn = LOOKED_AT.acquire().await;
    let bytes = staged.contents().await?;
    let contents = look_at(app, bytes.clone(), naming.clone()).await?;
    let raw = match &contents.kind {
        Kind::Release(parts) => parts.raw.clone(),
        Kind::Image => None,
    };
    let _held = app.artifacts.hold().await;
    let cut = bytes.len() - contents.kept;
    let file = match cut {
        0 => Stored { size: staged.len(), digest: app.artifacts.keep(staged).await? },
        // Devices would refuse what only fills the file up.
        _ => {
            let kept = bytes.slice(..contents.kept);
            Stored { size: kept.len() as u64, digest: app.artifacts.put(kept).await? }
        }
    };
    let has_signature_block = contents.kind == Kind::Image && contents.kept > contents.image_size as usize;
    let raw = match raw {
        // As a file of its own, so that later releases can have patches from it.
        Some(place) => {
            let image = bytes.slice(place);
            Some(Stored { size: image.len() as u64, digest: app.artifacts.put(image).await? })
        }
        None => None,
    };
    let (called, by) = (naming.clone(), caller.name.clone());
    let upload = Upload { contents, file, raw, notes, naming, cut: cut as u64, has_signature_block, by };
    let (makes, now) = (app.keys.makes(), app.clock.now());
    let write = move |tx: &Connection| {
        let registered = register(tx, &upload, makes, now)?;
        note(tx, &caller, &registered, &called, now)?;
        Ok::<_, RegisterError>(registered)
    };
    let registered = app.db.write(write).await?;
    // Whoever does jobs goes on with all that follows, should whoever asked go away.
    app.wake.jobs.notify_one();
    if registered.renames
        && let Err(error) = renaming::finish(app, registered.id).await
        && !error.is_outage()
    {
        tracing::warn!(release = registered.id, %error, "some devices are called as before; they are renamed later");
    }
    if registered.changed {
        app.events.tell(Event::Release { id: registered.id });
    }
    Ok(registered)
}

/// Notes an upload, with the names that were asked for.
fn note(
    tx: &Connection,
    caller: &Caller,
    registered: &Registered,
    called: &Naming,
    now: Time,
) -> Result<(), DbError> {
    let mut detail = json!({ "created": registered.created, "changed": registered.changed });
    for (name, text) in
        [("filename", &called.filename), ("product", &called.product), ("version", &called.version)]
    {
        if let Some(text) = text {
            detail[name] = text.as_str().into();
        }
    }
    audit::note(tx, caller, "release.upload", &format!("release/{}", registered.id), &detail, now)
}

async fn look_at(app: &App, bytes: Bytes, naming: Naming) -> Result<Contents, AcceptError> {
    let keys = app.keys.clone();
    let looked = tokio::task::spawn_blocking(move || Contents::read_as(&bytes, &keys, &naming)).await;
    let failed = |error| AcceptError::Artifact(ArtifactError::Io(std::io::Error::other(error)));
    Ok(looked.map_err(failed)??)
}
