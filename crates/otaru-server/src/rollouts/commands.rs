//! Commands about rollouts: each is one write with its line in the audit log, and everybody is told of it.
//!
//! The steps inside a write are in [`operate`].

use std::sync::Arc;

use crate::db::Connection;
use otaru_api::{NewRollout, Preview};
use otaru_rollout::{Control, DeviceId, Phase, RolloutId, Time};

use super::new;
use super::operate::is_ahead;
use super::preview;
use super::transaction::Changes;
use super::view::{RolloutView, release_in_short};
use super::{operate, rows};
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::releases::again::{self, Prepared, When};

/// Devices of a preview that are named.
const NAMED: usize = 20;

/// Makes a rollout, and tells everybody.
///
/// # Errors
/// When it makes no sense.
pub(crate) async fn create(app: &App, caller: Caller, order: NewRollout) -> Result<RolloutId, Problem> {
    let (prepared, now) = (Arc::new(new::prepare(&order, app).await?), app.clock.now());
    let to_apply = Arc::clone(&prepared);
    let made = app.db.write(move |tx| {
        let (kept, changes) = new::make(&order, tx, &caller, &to_apply, now)?;
        Ok::<_, Problem>((kept.rollout.id(), changes))
    });
    let (id, changes) = made.await?;
    changes.tell(app);
    prepared.tell(app);
    Ok(id)
}

/// Returns which devices a rollout would be for, and why it would not be made; or, counted until there are `enough`, only the former.
///
/// # Errors
/// When it makes no sense.
pub(crate) async fn preview(app: &App, order: NewRollout, enough: Option<u64>) -> Result<Preview, Problem> {
    let brings = new::brings(&order)?;
    let (now, wanted) = (app.clock.now(), order.clone());
    let counted = app.db.read(move |tx| {
        let (goal, release) = operate::goal(tx, brings)?;
        let spec = wanted.spec(goal);
        spec.validate().map_err(Problem::from)?;
        let mut preview = preview::preview(tx, spec, NAMED, enough, now)?;
        preview.release = release.map(|id| release_in_short(tx, id)).transpose()?.flatten();
        Ok::<_, Problem>(preview)
    });
    let mut preview = counted.await?;
    if enough.is_some() {
        return Ok(preview);
    }
    // By the very steps that making it begins with; nothing is signed.
    preview.problem = new::prepared(&order, app, When::Later).await.err().map(Problem::into_details);
    Ok(preview)
}

/// Does something to a rollout as a whole. One that starts brings what devices take at that time.
///
/// # Errors
/// When it cannot be done now, or a release would have to be signed elsewhere first.
pub(crate) async fn control(
    app: &App,
    caller: Caller,
    id: u64,
    control: Control,
) -> Result<RolloutView, Problem> {
    let now = app.clock.now();
    let prepared = match control {
        Control::Start => prepare_start(app, RolloutId(id), now).await?,
        _ => Prepared::default(),
    };
    operated(app, id, prepared, move |tx, id| operate::control(tx, &caller, id, control, now)).await
}

/// Prepares what a draft brings.
async fn prepare_start(app: &App, id: RolloutId, now: Time) -> Result<Prepared, Problem> {
    let found =
        app.db.read(move |tx| match rows::get(tx, id)?.filter(|kept| kept.rollout.phase() == Phase::Draft) {
            Some(kept) => {
                let spec = kept.rollout.spec().clone();
                let when = if is_ahead(spec.start_at, now) { When::Later } else { When::Now };
                Ok::<_, Problem>(Some((preview::outdated(tx, spec, now)?, when)))
            }
            None => Ok(None),
        });
    match found.await? {
        Some((found, when)) => again::prepare(app, found, when).await,
        // Why it cannot start is told when it is tried.
        None => Ok(Prepared::default()),
    }
}

/// Does something to a rollout with what was prepared for it, and tells everybody.
async fn operated(
    app: &App,
    id: u64,
    prepared: Prepared,
    operate: impl Fn(&Connection, RolloutId) -> Result<Changes, Problem> + Send + 'static,
) -> Result<RolloutView, Problem> {
    let id = RolloutId(id);
    let now = app.clock.now();
    let prepared = Arc::new(prepared);
    let to_apply = Arc::clone(&prepared);
    let done = app.db.write(move |tx| {
        to_apply.apply(tx, now)?;
        let changes = operate(tx, id)?;
        Ok::<_, Problem>((RolloutView::read(tx, id)?, changes))
    });
    let (view, changes) = done.await?;
    changes.tell(app);
    prepared.tell(app);
    Ok(view)
}

/// Gives a device all its attempts anew. With `force`, a signed release is signed again, so that a device that rolled it back
/// takes it.
///
/// # Errors
/// When there is nothing to try again, or the release would have to be signed elsewhere.
pub(crate) async fn retry(
    app: &App,
    caller: Caller,
    id: u64,
    device: DeviceId,
    force: bool,
) -> Result<RolloutView, Problem> {
    let (now, one) = (app.clock.now(), device.clone());
    let found = app.db.read(move |tx| operate::to_be_signed_again(tx, RolloutId(id), &one, force));
    let prepared = again::prepare(app, found.await?, When::Now).await?;
    operated(app, id, prepared, move |tx, id| operate::retry(tx, &caller, id, &device, force, now)).await
}
