//! `/rollouts` and their deployments.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use otaru_rollout::{
    Attempts, Control, DeviceId, Limits, Percent, Phase, RolloutId, RolloutSpec, StopRule, Tally, Target,
    Time, Verdicts, Wave,
};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::devices::{codes, known, standings};
use super::spec::{GateShape, GateText, SpecText};
use crate::app::Shared;
use crate::caller::Caller;
use crate::db::DbError;
use crate::idempotency::{Answer, Once};
use crate::page::{Cursor, Page, PageQuery};
use crate::problem::Problem;
use crate::releases::again::{self, Prepared, When};
use crate::rollouts::deployments::{self, DeploymentView};
use crate::rollouts::operate::{self, Brings};
use crate::rollouts::preview::{self, Preview};
use crate::rollouts::rows::{self, PHASES, RolloutEvent, StoredRollout};
use crate::rollouts::transaction::Changes;
use crate::timestamp::Timestamp;
use crate::web::extract::{Body, IdempotencyKey, Path, Query};
use crate::web::login::Operator;

/// Devices of a preview that are named.
const NAMED: usize = 20;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(preview))
        .routes(routes!(get))
        .routes(routes!(start))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(advance))
        .routes(routes!(finish))
        .routes(routes!(abort))
        .routes(routes!(widen))
        .routes(routes!(list_deployments))
        .routes(routes!(retry))
        .routes(routes!(happened))
}

/// A rollout as it is asked for. What its fields mean: docs/rollouts.md.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Lamps in Berlin to 1.1.0", "release": 1, "target": {"tags": "site=berlin"},
    "limits": {"concurrency": 50}
}))]
pub(crate) struct NewRollout {
    /// What people call it
    #[schema(min_length = 1, max_length = 100)]
    pub(crate) name: String,
    /// The release it brings: its id …
    #[serde(default)]
    pub(crate) release: Option<i64>,
    /// … or the rollout that it takes back
    #[serde(default)]
    pub(crate) undo: Option<u64>,
    /// Which devices; all, if not given
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) target: Target,
    /// The waves before the last
    #[serde(default)]
    #[schema(value_type = Vec<Object>, max_items = 16)]
    pub(crate) waves: Vec<Wave>,
    /// How many at once, how many a minute, and when
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) limits: Limits,
    /// When to stop by itself
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) stop: Option<StopRule>,
    /// How long and how often a device may try
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) attempts: Attempts,
    /// Of several for one device the highest has it; of equal ones the newest
    #[serde(default)]
    pub(crate) priority: i32,
    /// Shuffles the fleet for percentages
    #[serde(default)]
    #[schema(max_length = 64)]
    pub(crate) salt: String,
    /// Not before this
    #[serde(default)]
    pub(crate) start_at: Option<Timestamp>,
    /// Devices that have not begun by then are given up
    #[serde(default)]
    pub(crate) end_at: Option<Timestamp>,
    /// Never completes by itself
    #[serde(default)]
    pub(crate) continuous: bool,
    /// Also other products and what failed before: where firmware is not signed by the offers' word `force`, and where it is
    /// by signing it again with a higher sequence
    #[serde(default)]
    pub(crate) force: bool,
    /// Make it, but do not start it yet; nothing is signed before it starts
    #[serde(default)]
    pub(crate) draft: bool,
}

impl NewRollout {
    fn brings(&self) -> Result<Brings, Problem> {
        match (self.release, self.undo) {
            (Some(release), None) => Ok(Brings::Release(release)),
            (None, Some(undo)) => Ok(Brings::Undo(RolloutId(undo))),
            _ => Err(Problem::invalid("give either `release` or `undo`")),
        }
    }

    /// Looks for what devices would refuse as older than what they have had, or could not be sent to, and signs it again unless the
    /// rollout starts later.
    ///
    /// # Errors
    /// When it makes no sense, a release has to be signed elsewhere first, or a file cannot be kept.
    pub(crate) async fn prepare(&self, app: &Shared) -> Result<Prepared, Problem> {
        let is_later = self.draft || is_ahead(self.start_at.map(Time::from), app.clock.now());
        self.prepared(app, if is_later { When::Later } else { When::Now }).await
    }

    async fn prepared(&self, app: &Shared, when: When) -> Result<Prepared, Problem> {
        let (new, brings, now) = (self.clone(), self.brings()?, app.clock.now());
        let found = app.db.read(move |tx| {
            let (goal, _) = operate::goal(tx, brings)?;
            preview::outdated(tx, new.spec(goal), now)
        });
        again::prepare(app, found.await?, when).await
    }

    /// Keeps it, and starts it unless it is a draft.
    ///
    /// # Errors
    /// When it makes no sense, or something changed since it was prepared.
    pub(crate) fn make(
        &self,
        tx: &Connection,
        caller: &Caller,
        prepared: &Prepared,
        now: Time,
    ) -> Result<(StoredRollout, Changes), Problem> {
        prepared.apply(tx, now)?;
        let (goal, release) = operate::goal(tx, self.brings()?)?;
        operate::create(tx, caller, &self.name, release, self.clone().spec(goal), self.draft, now)
    }

    fn spec(self, goal: otaru_rollout::Goal) -> RolloutSpec {
        RolloutSpec {
            goal,
            target: self.target,
            salt: self.salt,
            priority: self.priority,
            waves: self.waves,
            limits: self.limits,
            stop: self.stop,
            attempts: self.attempts,
            start_at: self.start_at.map(Time::from),
            end_at: self.end_at.map(Time::from),
            continuous: self.continuous,
            force: self.force,
        }
    }
}

/// Whether a rollout that is started at this moment waits for its time.
fn is_ahead(start_at: Option<Time>, now: Time) -> bool {
    start_at.is_some_and(|at| at > now)
}

/// A rollout as it is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// Newer ones have higher ids.
    pub id: u64,
    /// What people call it.
    pub name: String,
    /// The release it brings.
    pub release: Option<ReleaseOf>,
    /// The rollout it takes back.
    pub undo: Option<u64>,
    /// `draft`, `scheduled`, `running`, `paused`, `stopped`, `finishing`, `completed` or `aborted`.
    pub phase: String,
    /// The open wave's index, from 0; those before it are open too.
    pub wave: usize,
    /// What is between that and the next: `working`, `{"soaking": since}` or `{"held": why}`.
    #[serde(serialize_with = "GateText::serialize")]
    #[schema(value_type = GateShape)]
    pub gate: otaru_rollout::GateState,
    /// Whether nothing starts because too many devices try the image again that did not reach the broker.
    pub retries_hold: bool,
    /// How many deployments stand where, for each wave; the last one's is the last.
    #[schema(value_type = Vec<BTreeMap<String, u32>>)]
    pub tallies: Vec<Tally>,
    /// How many devices have shown that it is good, and how many that it is not.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub verdicts: Verdicts,
    /// The verdicts that broke the stop rule, of a wave or of all; of a stopped rollout only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u32>>)]
    pub broke: Option<Verdicts>,
    /// Why devices failed, and how many for each reason. Of a single rollout only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<BTreeMap<String, u64>>,
    /// What was asked for.
    #[serde(serialize_with = "SpecText::serialize")]
    #[schema(value_type = SpecText)]
    pub spec: RolloutSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A release, in short.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ReleaseOf {
    /// Its id.
    pub id: i64,
    /// Its product.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Product and version and, where another release for the chip has the same, the first digits of the image.
    pub title: String,
    /// The first eight digits of its image.
    pub image_short: String,
    /// Name of the file it came in.
    pub filename: Option<String>,
}

impl ReleaseOf {
    fn read(tx: &Connection, id: i64) -> Result<Option<Self>, DbError> {
        let release = crate::releases::rows::get(tx, id)?;
        Ok(release.map(|release| Self {
            id,
            product: release.product,
            version: release.version,
            title: release.title,
            image_short: release.image_short,
            filename: release.filename,
        }))
    }
}

impl RolloutView {
    /// A rollout for people and programs.
    ///
    /// # Errors
    /// Those of the database.
    pub fn of(tx: &Connection, kept: StoredRollout) -> Result<Self, DbError> {
        let rollout = kept.rollout;
        let release = kept.release.map(|id| ReleaseOf::read(tx, id)).transpose()?.flatten();
        let undo = match rollout.spec().goal {
            otaru_rollout::Goal::Undo { rollout, .. } => Some(rollout.0),
            otaru_rollout::Goal::Image(_) => None,
        };
        let broke = match rollout.phase() {
            otaru_rollout::Phase::Stopped => rows::broke(tx, rollout.id())?,
            _ => None,
        };
        Ok(Self {
            id: rollout.id().0,
            name: kept.name,
            release,
            undo,
            phase: rows::phase_name(rollout.phase()).to_owned(),
            wave: rollout.wave(),
            gate: rollout.gate(),
            retries_hold: rollout.phase() == otaru_rollout::Phase::Running && rollout.is_held_by_retries(),
            tallies: rollout.tallies().to_vec(),
            verdicts: rollout.verdicts(),
            broke,
            reasons: None,
            spec: rollout.spec().clone(),
            created_at: kept.created_at,
            created_by: kept.created_by,
            updated_at: kept.updated_at,
        })
    }

    /// The rollout of this id, with why devices failed.
    ///
    /// # Errors
    /// When there is none, and those of the database.
    pub fn read(tx: &Connection, id: RolloutId) -> Result<Self, Problem> {
        let kept = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("rollout {}", id.0)))?;
        let reasons = deployments::reasons(tx, id)?;
        Ok(Self { reasons: Some(reasons), ..Self::of(tx, kept)? })
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RolloutQuery {
    /// Only those in this phase
    phase: Option<String>,
}

/// The rollouts, newest first
#[utoipa::path(get, path = "/rollouts", tag = "rollouts", operation_id = "list_rollouts", params(RolloutQuery, PageQuery),
    responses((status = 200, body = Page<RolloutView>)))]
async fn list(
    State(app): State<Shared>,
    _caller: Caller,
    Query(of): Query<RolloutQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<RolloutView>>, Problem> {
    let (limit, before) = (wanted.limit()?, wanted.after()?);
    let phase = known("phase", of.phase, PHASES)?;
    let page = app.db.read(move |tx| {
        let found = rows::list(tx, phase.as_deref(), before, limit + 1)?;
        let views = found.into_iter().map(|kept| RolloutView::of(tx, kept)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, DbError>(Page::cut(views, limit, |last| Cursor::of(&last.id)))
    });
    Ok(Json(page.await?))
}

/// Make a rollout, and start it unless it is a draft
#[utoipa::path(post, path = "/rollouts", tag = "rollouts", operation_id = "create_rollout",
    params(("Idempotency-Key" = Option<String>, Header, description = "what this request is called: sent again with the same, it is carried out once", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewRollout, responses((status = 201, body = RolloutView)))]
async fn create(
    State(app): State<Shared>,
    Operator(caller): Operator,
    key: IdempotencyKey,
    Body(new): Body<NewRollout>,
) -> Result<Answer, Problem> {
    let once = Once::new(key.0, &caller, "rollout", &new);
    // Why it cannot be is told by the write, which may also know the answer of an earlier request.
    let prepared = new.prepare(&app).await;
    let (sender, changes) = tokio::sync::oneshot::channel();
    let answer = once.run(&app.db, app.clock.now(), move |tx, now| {
        let prepared = prepared?;
        let (kept, changes) = new.make(tx, &caller, &prepared, now)?;
        // Nobody waits for it where the answer is one that was given before.
        let _ = sender.send((changes, prepared));
        Ok(Answer::created(&RolloutView::of(tx, kept)?))
    });
    let answer = answer.await?;
    if let Ok((changes, prepared)) = changes.await {
        changes.tell(&app);
        prepared.tell(&app);
    }
    Ok(answer)
}

/// Makes a rollout, and tells everybody.
///
/// # Errors
/// When it makes no sense.
pub(crate) async fn create_one(app: &Shared, caller: Caller, new: NewRollout) -> Result<RolloutId, Problem> {
    let (prepared, now) = (new.prepare(app).await?, app.clock.now());
    let made = app.db.write(move |tx| {
        let (kept, changes) = new.make(tx, &caller, &prepared, now)?;
        Ok::<_, Problem>((kept.rollout.id(), changes, prepared))
    });
    let (id, changes, prepared) = made.await?;
    changes.tell(app);
    prepared.tell(app);
    Ok(id)
}

/// Which devices a rollout would be for
#[utoipa::path(post, path = "/rollouts/preview", tag = "rollouts", request_body = NewRollout,
    responses((status = 200, body = Preview)))]
async fn preview(
    State(app): State<Shared>,
    _: Operator,
    Body(new): Body<NewRollout>,
) -> Result<Json<Preview>, Problem> {
    Ok(Json(preview_of(&app, new).await?))
}

/// Which devices a rollout would be for, and why it would not be made.
///
/// # Errors
/// When it makes no sense.
pub(crate) async fn preview_of(app: &Shared, new: NewRollout) -> Result<Preview, Problem> {
    let brings = new.brings()?;
    let (now, wanted) = (app.clock.now(), new.clone());
    let counted = app.db.read(move |tx| {
        let (goal, release) = operate::goal(tx, brings)?;
        let spec = wanted.spec(goal);
        spec.validate().map_err(Problem::from)?;
        let mut preview = preview::preview(tx, spec, NAMED, now)?;
        preview.release = release.map(|id| ReleaseOf::read(tx, id)).transpose()?.flatten();
        Ok::<_, Problem>(preview)
    });
    let mut preview = counted.await?;
    // By the very steps that making it begins with; nothing is signed.
    preview.problem = new.prepared(app, When::Later).await.err();
    Ok(preview)
}

/// A rollout
#[utoipa::path(get, path = "/rollouts/{id}", tag = "rollouts", operation_id = "get_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(app.db.read(move |tx| RolloutView::read(tx, RolloutId(id))).await?))
}

async fn control(
    app: Shared,
    caller: Caller,
    id: u64,
    control: Control,
) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(control_one(&app, caller, id, control).await?))
}

/// Does something to a rollout as a whole. One that starts brings what devices take at that time.
///
/// # Errors
/// When it cannot be done now, or a release would have to be signed elsewhere first.
pub(crate) async fn control_one(
    app: &Shared,
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
async fn prepare_start(app: &Shared, id: RolloutId, now: Time) -> Result<Prepared, Problem> {
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
    app: &Shared,
    id: u64,
    prepared: Prepared,
    operate: impl FnOnce(&Connection, RolloutId) -> Result<Changes, Problem> + Send + 'static,
) -> Result<RolloutView, Problem> {
    let id = RolloutId(id);
    let now = app.clock.now();
    let done = app.db.write(move |tx| {
        prepared.apply(tx, now)?;
        let changes = operate(tx, id)?;
        Ok::<_, Problem>((RolloutView::read(tx, id)?, changes, prepared))
    });
    let (view, changes, prepared) = done.await?;
    changes.tell(app);
    prepared.tell(app);
    Ok(view)
}

/// Start a draft
#[utoipa::path(post, path = "/rollouts/{id}/start", tag = "rollouts", operation_id = "start_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn start(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Start).await
}

/// Start no more devices until it is resumed
///
/// Devices that are under way are not touched.
#[utoipa::path(post, path = "/rollouts/{id}/pause", tag = "rollouts", operation_id = "pause_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn pause(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Pause).await
}

/// Go on after a pause or a stop
#[utoipa::path(post, path = "/rollouts/{id}/resume", tag = "rollouts", operation_id = "resume_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn resume(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Resume).await
}

/// Open the next wave now
#[utoipa::path(post, path = "/rollouts/{id}/advance", tag = "rollouts", operation_id = "advance_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn advance(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Advance).await
}

/// Start no more devices, and complete when what is under way has ended
#[utoipa::path(post, path = "/rollouts/{id}/finish", tag = "rollouts", operation_id = "finish_rollout",
    params(("id" = u64, Path)), responses((status = 200, body = RolloutView)))]
async fn finish(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Finish).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Abort {
    /// Also cancel what is under way, as far as devices still can
    #[serde(default)]
    cancel: bool,
}

/// Give it up
#[utoipa::path(post, path = "/rollouts/{id}/abort", tag = "rollouts", operation_id = "abort_rollout",
    params(("id" = u64, Path), Abort), responses((status = 200, body = RolloutView)))]
async fn abort(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Query(Abort { cancel }): Query<Abort>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Abort { cancel }).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Widen {
    /// Per cent of the target, more than before
    #[schema(value_type = f64, minimum = 0, maximum = 100)]
    percent: Percent,
}

/// Take a larger share of the target
#[utoipa::path(post, path = "/rollouts/{id}/widen", tag = "rollouts", operation_id = "widen_rollout",
    params(("id" = u64, Path)), request_body = Widen, responses((status = 200, body = RolloutView)))]
async fn widen(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<u64>,
    Body(Widen { percent }): Body<Widen>,
) -> Result<Json<RolloutView>, Problem> {
    control(app, caller, id, Control::Widen(percent)).await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct DeploymentQuery {
    /// Only those that stand so: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    standing: Option<String>,
    /// Only those that failed for this reason
    error: Option<String>,
}

/// A rollout's deployments, in the order of their devices
#[utoipa::path(get, path = "/rollouts/{id}/deployments", tag = "rollouts", params(("id" = u64, Path), DeploymentQuery, PageQuery),
    responses((status = 200, body = Page<DeploymentView>)))]
async fn list_deployments(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
    Query(those): Query<DeploymentQuery>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<DeploymentView>>, Problem> {
    let (limit, after, id) = (wanted.limit()?, wanted.after::<String>()?, RolloutId(id));
    let standing = known("standing", those.standing, standings())?;
    let error = known("error", those.error, codes())?;
    let page = app.db.read(move |tx| {
        rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("rollout {}", id.0)))?;
        let (standing, error) = (standing.as_deref(), error.as_deref());
        Ok::<_, Problem>(deployments::list(tx, id, standing, error, after.as_deref(), limit)?)
    });
    Ok(Json(page.await?))
}

#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Retry {
    /// Also on a device that has rolled this image back: signed with a higher sequence, or, without a signature, offered with
    /// `force`
    force: bool,
}

/// Give a device that failed all its attempts anew
#[utoipa::path(post, path = "/rollouts/{id}/deployments/{device}/retry", tag = "rollouts",
    params(("id" = u64, Path), ("device" = String, Path)), request_body = Retry,
    responses((status = 200, body = RolloutView)))]
async fn retry(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path((id, device)): Path<(u64, String)>,
    Body(Retry { force }): Body<Retry>,
) -> Result<Json<RolloutView>, Problem> {
    Ok(Json(retry_one(&app, caller, id, DeviceId::from(device.as_str()), force).await?))
}

/// Gives a device all its attempts anew. With `force`, a signed release is signed again, so that a device that rolled it back
/// takes it.
///
/// # Errors
/// When there is nothing to try again, or the release would have to be signed elsewhere.
pub(crate) async fn retry_one(
    app: &Shared,
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

/// What happened to a rollout, newest first
#[utoipa::path(get, path = "/rollouts/{id}/events", tag = "rollouts", params(("id" = u64, Path), PageQuery),
    responses((status = 200, body = Page<RolloutEvent>)))]
async fn happened(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<u64>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<RolloutEvent>>, Problem> {
    let (limit, before) = (wanted.limit()?, wanted.after::<i64>()?);
    let page = app.db.read(move |tx| rows::events(tx, RolloutId(id), before, limit));
    Ok(Json(page.await?))
}
