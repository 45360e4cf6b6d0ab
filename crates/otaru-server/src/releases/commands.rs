//! Commands about releases: each is one write with its line in the audit log, and everybody is told of it.

use otaru_api::{Event, JobKind, Release, Role};
use serde_json::{Value, json};

use super::accept::accept;
use super::job::Job;
use super::naming::Naming;
use super::register::Registered;
use super::{needs, rows};
use crate::access::audit;
use crate::app::App;
use crate::artifacts::Staged;
use crate::caller::Caller;
use crate::db::{Connection, DbError};
use crate::problem::Problem;

/// The longest notes, in bytes.
const LONGEST_NOTES: usize = 16 << 10;

/// Takes a file in, and tells everybody. Says what it made of it.
///
/// # Errors
/// When it is no firmware, or cannot be called so.
pub(crate) async fn take_upload(
    app: &App,
    caller: Caller,
    staged: Staged,
    naming: Naming,
    notes: Option<String>,
) -> Result<(Release, Registered), Problem> {
    check_notes(notes.as_deref())?;
    let filename = naming.filename.clone();
    let accepted = accept(app, staged, naming, notes, caller).await;
    let registered = accepted.map_err(|error| named(error.into(), filename.as_deref()))?;
    Ok((find(app, registered.id).await?, registered))
}

/// Begins what is wrong with a file with its name.
fn named(mut problem: Problem, filename: Option<&str>) -> Problem {
    if let Some(filename) = filename {
        problem.detail = format!("{filename}: {}", problem.detail);
    }
    problem
}

/// Changes a release's notes.
///
/// # Errors
/// When there is none, or they are too long.
pub(crate) async fn set_notes(app: &App, caller: Caller, id: i64, notes: String) -> Result<Release, Problem> {
    check_notes(Some(&notes))?;
    let detail = json!({ "notes": notes });
    edit(app, caller, id, "release.change", detail, move |tx| rows::set_notes(tx, id, &notes)).await
}

/// Yanks a release, or un-yanks it.
///
/// # Errors
/// When there is none.
pub(crate) async fn set_yanked(app: &App, caller: Caller, id: i64, yanked: bool) -> Result<Release, Problem> {
    let action = if yanked { "release.yank" } else { "release.unyank" };
    let at = yanked.then(|| app.clock.now());
    edit(app, caller, id, action, json!({}), move |tx| rows::set_yanked(tx, id, at)).await
}

/// Asks for a release file to be made anew; `replace` also asks for one that was signed elsewhere.
///
/// # Errors
/// When it cannot be made here.
pub(crate) async fn ask_for_build(app: &App, caller: Caller, id: i64, replace: bool) -> Result<Job, Problem> {
    if replace {
        caller.require(Role::Admin)?;
    }
    let signs = app.keys.signer().is_some();
    let (kind, now) = (if replace { JobKind::Replace } else { JobKind::Build }, app.clock.now());
    let write = move |tx: &Connection| {
        let release = rows::get(tx, id)?.ok_or_else(|| missing(id))?;
        if !signs && !release.built {
            return Err(Problem::conflict(
                "this server has no signing key; start it with one, or upload an .otaru file",
            ));
        }
        can_be_built(&release, kind)?;
        let detail = json!({ "replace": kind == JobKind::Replace });
        audit::note(tx, &caller, "release.build", &object(id), &detail, now)?;
        Ok::<_, Problem>(Job::ask(tx, id, kind, now)?)
    };
    let job = app.db.write(write).await?;
    app.wake.jobs.notify_one();
    Ok(job)
}

fn can_be_built(release: &Release, kind: JobKind) -> Result<(), Problem> {
    if release.raw.is_none() {
        return Err(Problem::conflict("the release has no image as a file; upload its .bin"));
    }
    if release.file.is_some() && !release.built && kind == JobKind::Build {
        let detail =
            "its file was signed elsewhere, and stays; an admin can ask for another with `replace=true`";
        return Err(Problem::conflict(detail));
    }
    Ok(())
}

fn missing(id: i64) -> Problem {
    Problem::not_found(format_args!("release {id}"))
}

/// Returns a release, with what boards it runs on.
///
/// # Errors
/// When there is none.
pub(crate) async fn find(app: &App, id: i64) -> Result<Release, Problem> {
    let mut release = app.db.read(move |tx| rows::get(tx, id)).await?.ok_or_else(|| missing(id))?;
    // Of one that was uploaded before it was kept.
    if let Some(raw) = release.raw.filter(|_| release.needs.is_none()) {
        release.needs = needs::read(&app.artifacts, raw).await;
    }
    Ok(release)
}

/// Returns its name in the audit log.
fn object(id: i64) -> String {
    format!("release/{id}")
}

/// Changes a release, notes who did it, tells it, and shows the release.
async fn edit(
    app: &App,
    caller: Caller,
    id: i64,
    action: &'static str,
    detail: Value,
    change: impl Fn(&Connection) -> Result<bool, DbError> + Send + 'static,
) -> Result<Release, Problem> {
    let now = app.clock.now();
    let write = move |tx: &Connection| {
        let done = change(tx)?;
        if done {
            audit::note(tx, &caller, action, &object(id), &detail, now)?;
        }
        Ok::<_, DbError>(done)
    };
    if !app.db.write(write).await? {
        return Err(missing(id));
    }
    app.events.tell(Event::Release { id });
    find(app, id).await
}

/// Whether notes are short enough.
///
/// # Errors
/// When they are not.
pub(crate) fn check_notes(notes: Option<&str>) -> Result<(), Problem> {
    match notes {
        Some(notes) if notes.len() > LONGEST_NOTES => {
            Err(Problem::invalid(format!("notes may have at most {LONGEST_NOTES} bytes")))
        }
        _ => Ok(()),
    }
}
