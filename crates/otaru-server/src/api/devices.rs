//! `/devices` and `/fleet`: the registry.

use axum::Json;
use axum::extract::State;
use otaru_format::status::{Code, UpdateState};
use otaru_format::topic::Topics;
use otaru_rollout::{DeviceId, Outcome, Standing, Time};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{audit, devices as logins};
use crate::app::{App, Shared};
use crate::caller::Caller;
use crate::devices::edit::{self, Change};
use crate::devices::health;
use crate::devices::history::{self, DeviceEvent};
use crate::devices::list::{self, Filter, Fleet, Order, Sort};
use crate::devices::registry::{self, Entry, NoRoom};
use crate::devices::rows::{self, Device};
use crate::devices::tags;
use crate::events::Event;
use crate::idempotency::{Answer, Once};
use crate::mqtt::Contested;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;
use crate::rollouts::transaction::Changes;
use crate::similar::did_you_mean;
use crate::timestamp::Timestamp;
use crate::web::extract::{Body, IdempotencyKey, Path, Query, digest};
use crate::web::login::{Admin, Operator};

/// The most devices that one request may change.
const MOST_AT_ONCE: usize = 10_000;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(fleet))
        .routes(routes!(list_devices, add))
        .routes(routes!(tag_many))
        .routes(routes!(get, change))
        .routes(routes!(retire))
        .routes(routes!(unretire))
        .routes(routes!(new_password))
        .routes(routes!(allow_claim))
        .routes(routes!(happened))
}

/// A device's id as it stands in a path or a body.
///
/// # Errors
/// When no device can be called so.
pub(crate) fn device_id(app: &Shared, text: &str) -> Result<DeviceId, Problem> {
    match Topics::new(&app.config.base, text) {
        Ok(_) => Ok(DeviceId::from(text)),
        Err(error) => Err(Problem::invalid(error.to_string())),
    }
}

/// The fleet in numbers, and how many devices there is room for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct FleetInNumbers {
    #[serde(flatten)]
    fleet: Fleet,
    /// How many devices, without retired ones, the server takes
    most: u64,
    /// How often there was no room for one since the server started
    refused: u64,
}

/// The fleet in numbers
#[utoipa::path(get, path = "/fleet", tag = "devices", responses((status = 200, body = FleetInNumbers)))]
async fn fleet(State(app): State<Shared>, _caller: Caller) -> Result<Json<FleetInNumbers>, Problem> {
    let fleet = app.db.read(list::fleet).await?;
    Ok(Json(FleetInNumbers { fleet, most: app.config.registration.devices, refused: app.registry.refused() }))
}

/// Which devices.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::IntoParams, utoipa::ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct DeviceQuery {
    /// Whose id or label contains this
    q: Option<String>,
    /// Whose tags fit this expression, such as `site=berlin and not canary`
    tags: Option<String>,
    /// Who runs this project
    product: Option<String>,
    /// Who runs this version
    version: Option<String>,
    /// Who runs a version in this range, such as `>=1.0.0, <2.0.0`
    versions: Option<String>,
    /// Whose chip this is, such as `esp32c3`
    chip: Option<String>,
    /// Who runs this image: its SHA-256 in hex
    image: Option<String>,
    /// Who is at this, such as `rolled_back`
    state: Option<String>,
    /// Who is `well`, `updating`, `troubled` or `away`
    health: Option<String>,
    /// Who can be reached, or cannot
    reachable: Option<bool>,
    /// Who failed for this reason, such as `panic`
    error: Option<String>,
    /// Who has a deployment in this rollout
    rollout: Option<i64>,
    /// Whose deployment there stands so: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    standing: Option<String>,
    /// Those that were retired, instead of those that were not
    retired: bool,
}

impl DeviceQuery {
    /// The filter it means.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub(crate) fn filter(self) -> Result<Filter, Problem> {
        // What is left empty, as in a form, is not given.
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let tags =
            given(self.tags).map(|text| text.parse().map_err(|error| bad("tags", error))).transpose()?;
        let versions = given(self.versions)
            .map(|text| text.parse().map_err(|error| bad("versions", error)))
            .transpose()?;
        let state = known("state", given(self.state), UpdateState::ALL.iter().map(|state| state.as_str()))?;
        let health = known("health", given(self.health), health::ALL)?;
        let error_code = known("error", given(self.error), codes())?;
        let standing = known("standing", given(self.standing), standings())?;
        let image = given(self.image).map(|text| digest(&text)).transpose()?.map(|digest| digest.0);
        Ok(Filter {
            text: given(self.q),
            product: given(self.product),
            version: given(self.version),
            chip: given(self.chip),
            state,
            health,
            reachable: self.reachable,
            error_code,
            rollout: self.rollout,
            standing,
            retired: self.retired,
            tags,
            versions,
            image,
        })
    }
}

/// A value of which only some can be: a misspelt one would look like a fleet without such devices.
///
/// # Errors
/// When it is none of them.
pub(crate) fn known<'a>(
    name: &str,
    given: Option<String>,
    all: impl IntoIterator<Item = &'a str>,
) -> Result<Option<String>, Problem> {
    let Some(text) = given else { return Ok(None) };
    let all: Vec<&str> = all.into_iter().collect();
    if all.contains(&text.as_str()) {
        return Ok(Some(text));
    }
    let meant = match did_you_mean(&text, all.iter().copied()) {
        meant if meant.is_empty() => ".".to_owned(),
        meant => meant,
    };
    Err(Problem::invalid(format!("`{name}`: there is no `{text}`{meant} It is one of: {}", all.join(", "))))
}

/// Where deployments can stand.
pub(crate) fn standings() -> impl Iterator<Item = &'static str> {
    let open = [Standing::Ready, Standing::Waiting, Standing::Active, Standing::Retrying];
    open.into_iter().chain(Outcome::ALL.map(Standing::Finished)).map(Standing::as_str)
}

/// The codes of failures.
pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
    let known = (1..u8::MAX).map(Code::from_number).filter(|code| *code != Code::Unknown);
    known.chain([Code::Unknown]).map(Code::as_str)
}

fn bad(name: &str, error: otaru_rollout::TextError) -> Problem {
    Problem::invalid(format!("`{name}` {}", error.pointed()))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
struct Sorted {
    /// What the list is sorted by; ties by id
    sort: Sort,
    /// From the end
    descending: bool,
}

/// The devices
#[utoipa::path(get, path = "/devices", tag = "devices", params(DeviceQuery, Sorted, PageQuery),
    responses((status = 200, body = Page<Device>)))]
async fn list_devices(
    State(app): State<Shared>,
    _caller: Caller,
    Query(which): Query<DeviceQuery>,
    Query(Sorted { sort, descending }): Query<Sorted>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Device>>, Problem> {
    let filter = which.filter()?;
    let order = Order { sort, descending, after: wanted.after()?, limit: wanted.limit()? };
    Ok(Json(app.db.read(move |tx| list::list(tx, &filter, &order)).await?))
}

/// All that is known of a device.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Details {
    #[serde(flatten)]
    pub(crate) device: Device,
    /// Its last report, as it sent it
    pub(crate) report: Option<Value>,
    /// Its deployments, newest first, at most 50
    pub(crate) deployments: Vec<DeploymentOfDevice>,
    /// Where boards take the connection to the embedded broker from each other: several have this name
    pub(crate) contested: Option<Contested>,
}

/// A device's way in a rollout, in short.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeploymentOfDevice {
    /// Of which rollout.
    pub(crate) rollout: i64,
    /// What that is called.
    pub(crate) name: String,
    /// `ready`, `waiting`, `active`, or how it ended.
    pub(crate) standing: String,
    /// Why it failed, as a code.
    pub(crate) error_code: Option<String>,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

/// All that is known of a device
#[utoipa::path(get, path = "/devices/{id}", tag = "devices", operation_id = "get_device",
    params(("id" = String, Path)), responses((status = 200, body = Details)))]
async fn get(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Details>, Problem> {
    let id = device_id(&app, &id)?;
    let details = app.db.read(move |tx| details(tx, &id)).await?;
    Ok(Json(details.and_contested(&app)))
}

/// All that is known of a device.
///
/// # Errors
/// When there is none, and those of the database.
pub(crate) fn details(tx: &rusqlite::Connection, id: &DeviceId) -> Result<Details, Problem> {
    let device = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
    let mut rows = tx.prepare_cached(
        "SELECT d.rollout, r.name, d.standing, d.error_code, d.updated_at
         FROM deployments d JOIN rollouts r ON r.id = d.rollout WHERE d.device = ? ORDER BY d.rollout DESC LIMIT 50",
    )?;
    let deployments = rows.query_map([id.as_str()], |row| {
        Ok(DeploymentOfDevice {
            rollout: row.get(0)?,
            name: row.get(1)?,
            standing: row.get(2)?,
            error_code: row.get(3)?,
            updated_at: row.get(4)?,
        })
    })?;
    let deployments = deployments.collect::<Result<_, _>>()?;
    Ok(Details { device, report: rows::report(tx, id)?, deployments, contested: None })
}

impl Details {
    /// The same with what the broker knows of the device.
    pub(crate) fn and_contested(self, app: &App) -> Self {
        let contested = app.connections.contested(&self.device.id);
        Self { contested, ..self }
    }
}

/// What happened to a device, newest first
#[utoipa::path(get, path = "/devices/{id}/history", tag = "devices", operation_id = "device_history",
    params(("id" = String, Path), PageQuery), responses((status = 200, body = Page<DeviceEvent>)))]
async fn happened(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<DeviceEvent>>, Problem> {
    let (id, limit, before) = (device_id(&app, &id)?, wanted.limit()?, wanted.after()?);
    let page = app.db.read(move |tx| {
        rows::get(tx, &id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
        Ok::<_, Problem>(history::list(tx, &id, before, limit)?)
    });
    Ok(Json(page.await?))
}

/// Change what a device is called, and its tags
#[utoipa::path(patch, path = "/devices/{id}", tag = "devices", operation_id = "change_device",
    params(("id" = String, Path)), request_body = Change, responses((status = 200, body = Details)))]
async fn change(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Details>, Problem> {
    Ok(Json(change_one(&app, caller, &id, change).await?))
}

/// Changes a device and tells everybody.
///
/// # Errors
/// When there is none, or it cannot be changed so.
pub(crate) async fn change_one(
    app: &Shared,
    caller: Caller,
    id: &str,
    change: Change,
) -> Result<Details, Problem> {
    let now = app.clock.now();
    edited(app, id, move |tx, id| edit::change(tx, &caller, id, &change, now)).await
}

async fn edited(
    app: &Shared,
    id: &str,
    edit: impl FnOnce(&rusqlite::Connection, &DeviceId) -> Result<Changes, Problem> + Send + 'static,
) -> Result<Details, Problem> {
    let id = device_id(app, id)?;
    let done = app.db.write(move |tx| {
        let changes = edit(tx, &id)?;
        Ok::<_, Problem>((details(tx, &id)?, changes))
    });
    let (details, changes) = done.await?;
    changes.tell(app);
    tell(app, &details.device);
    Ok(details.and_contested(app))
}

/// Retire a device
///
/// It gets no firmware any more and cannot log in, until it is taken back; its history stays.
#[utoipa::path(post, path = "/devices/{id}/retire", tag = "devices", operation_id = "retire_device",
    params(("id" = String, Path)), responses((status = 200, body = Details)))]
async fn retire(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
) -> Result<Json<Details>, Problem> {
    Ok(Json(retire_one(&app, caller, &id).await?))
}

/// Retires a device and tells everybody.
///
/// # Errors
/// When there is none.
pub(crate) async fn retire_one(app: &Shared, caller: Caller, id: &str) -> Result<Details, Problem> {
    let now = app.clock.now();
    edited(app, id, move |tx, id| edit::retire(tx, &caller, id, now)).await
}

/// Take back a retired device
///
/// Its login and tags are good again; open rollouts that are for it offer it what they bring.
#[utoipa::path(post, path = "/devices/{id}/unretire", tag = "devices", operation_id = "unretire_device",
    params(("id" = String, Path)), responses((status = 200, body = Details)))]
async fn unretire(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Path(id): Path<String>,
) -> Result<Json<Details>, Problem> {
    Ok(Json(unretire_one(&app, caller, &id).await?))
}

/// Takes back a retired device and tells everybody.
///
/// # Errors
/// When there is none, or it is not retired.
pub(crate) async fn unretire_one(app: &Shared, caller: Caller, id: &str) -> Result<Details, Problem> {
    let now = app.clock.now();
    edited(app, id, move |tx, id| edit::unretire(tx, &caller, id, now)).await
}

fn tell(app: &Shared, device: &Device) {
    app.events.tell(Event::Device {
        id: device.id.clone(),
        state: device.state.clone(),
        version: device.version.clone(),
        reachable: device.reachable,
        progress: None,
        next_trial: device.next_trial(),
    });
}

/// A device that shall be known before it comes.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    /// Its name in MQTT topics, and its user name there
    #[schema(min_length = 1, max_length = 64)]
    id: String,
    /// What people call it
    #[serde(default)]
    #[schema(max_length = 100)]
    label: Option<String>,
    /// Its tags
    #[serde(default)]
    tags: std::collections::BTreeMap<String, String>,
}

/// A device that was just added.
#[derive(Serialize, utoipa::ToSchema)]
struct AddedDevice {
    #[serde(flatten)]
    device: Device,
    /// Its password at the broker; it is shown this once
    password: String,
}

/// Add a device, and make a login for it
///
/// The answer has its password in `password`, this once; its user name and MQTT client id are its id.
#[utoipa::path(post, path = "/devices", tag = "devices", operation_id = "add_device",
    params(("Idempotency-Key" = Option<String>, Header, description = "what this request is called: sent again with the same, it is carried out once", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewDevice, responses((status = 201, body = AddedDevice)))]
async fn add(
    State(app): State<Shared>,
    Admin(caller): Admin,
    key: IdempotencyKey,
    Body(new): Body<NewDevice>,
) -> Result<Answer, Problem> {
    let id = device_id(&app, &new.id)?;
    let most = app.config.registration.devices;
    let answer = Once::new(key.0, &caller, "device", &new).run(&app.db, app.clock.now(), move |tx, now| {
        let change = Change { label: new.label, tags: new.tags, remove_tags: Vec::new() };
        let (device, password) = add_one(tx, &caller, &id, &change, most, now)?;
        Ok(Answer::created(&device).and_secretly("password", password))
    });
    answer.await
}

/// Adds a device, with a login of its own; gives back its password.
///
/// # Errors
/// When it is known already, there is no room for it, or it cannot be so.
pub(crate) fn add_one(
    tx: &rusqlite::Connection,
    caller: &Caller,
    id: &DeviceId,
    change: &Change,
    most: u64,
    now: Time,
) -> Result<(Device, String), Problem> {
    match registry::register(tx, id, most, now)? {
        Entry::Made => {}
        Entry::NoRoom => return Err(NoRoom::Registry(most).into()),
        Entry::Known => {
            edit::exists(tx, id)?;
            return Err(Problem::conflict(format!(
                "the device {id} is known already; `/devices/{id}/password` makes a new login"
            )));
        }
    }
    // A device that has not reported is in no rollout yet.
    drop(edit::change(tx, caller, id, change, now)?);
    let password = logins::set_password(tx, id)?;
    audit::note(tx, caller, "device.add", &format!("device/{id}"), &json!({}), now)?;
    let device = rows::get(tx, id)?.ok_or_else(|| Problem::not_found("such device"))?;
    Ok((device, password))
}

/// A device's new login.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Login {
    /// Its user name and MQTT client id
    pub(super) username: String,
    /// Its password; it is shown this once
    pub(super) password: String,
}

/// Make a new password for a device
///
/// The one before, or the fleet key that it came with, is no longer good for it.
#[utoipa::path(post, path = "/devices/{id}/password", tag = "devices", params(("id" = String, Path)),
    responses((status = 200, body = Login)))]
async fn new_password(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<Login>, Problem> {
    Ok(Json(Login { password: make_password(&app, caller, &id).await?, username: id }))
}

/// Makes a new password for a device.
///
/// # Errors
/// When there is no such device.
pub(crate) async fn make_password(app: &Shared, caller: Caller, id: &str) -> Result<String, Problem> {
    let (id, now) = (device_id(app, id)?, app.clock.now());
    let password = app.db.write(move |tx| {
        let password = logins::set_password(tx, &id)?;
        audit::note(tx, &caller, "device.password", &format!("device/{id}"), &json!({}), now)?;
        Ok::<_, Problem>(password)
    });
    password.await
}

/// Let a device be claimed
///
/// For an hour, and once, a fleet key is good for a login of this device, although it is known.
#[utoipa::path(post, path = "/devices/{id}/allow-claim", tag = "devices", params(("id" = String, Path)),
    responses((status = 200, body = Details)))]
async fn allow_claim(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<Details>, Problem> {
    let (id, now) = (device_id(&app, &id)?, app.clock.now());
    let allowed = app.db.write(move |tx| {
        logins::allow_claim(tx, &caller, &id, now)?;
        details(tx, &id)
    });
    Ok(Json(allowed.await?.and_contested(&app)))
}

/// Tags for many devices.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct TagMany {
    /// These devices …
    #[serde(default)]
    devices: Vec<String>,
    /// … or all that are meant by this
    #[serde(default, deserialize_with = "strictly")]
    which: Option<DeviceQuery>,
    /// Tags they shall have
    #[serde(default)]
    set: std::collections::BTreeMap<String, String>,
    /// Names of tags they shall have no longer
    #[serde(default)]
    remove: Vec<String>,
}

/// A filter in a body. Here a name that is none is an error, and so is an empty text: a filter that leaves it out would mean more devices
/// than whoever misspelt it, or whose script had nothing to put there.
fn strictly<'de, D: Deserializer<'de>>(body: D) -> Result<Option<DeviceQuery>, D::Error> {
    let Some(given) = Option::<serde_json::Map<String, Value>>::deserialize(body)? else { return Ok(None) };
    let known = serde_json::to_value(DeviceQuery::default()).map_err(D::Error::custom)?;
    if let Some(name) = given.keys().find(|name| known.get(name.as_str()).is_none()) {
        return Err(D::Error::custom(format!("unknown field `{name}` in `which`")));
    }
    let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    if let Some((name, _)) = given.iter().find(|(_, value)| is_blank(value)) {
        let words = format!("`{name}` in `which` is empty; leave it out where it does not matter");
        return Err(D::Error::custom(words));
    }
    serde_json::from_value(Value::Object(given)).map(Some).map_err(D::Error::custom)
}

/// How many were changed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Changed {
    /// Devices.
    devices: usize,
}

/// Tag many devices at once
#[utoipa::path(post, path = "/devices/tags", tag = "devices", request_body = TagMany,
    responses((status = 200, body = Changed)))]
async fn tag_many(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Body(body): Body<TagMany>,
) -> Result<Json<Changed>, Problem> {
    tags::check(&body.set)?;
    tags::check_removed(&body.remove)?;
    let ids = match body.which {
        Some(which) if body.devices.is_empty() => ids_of(&app, which).await?,
        None if !body.devices.is_empty() => body.devices,
        _ => return Err(Problem::invalid("give either `devices` or `which`")),
    };
    let change = Change { label: None, tags: body.set, remove_tags: body.remove };
    Ok(Json(Changed { devices: change_many(&app, caller, ids, change).await? }))
}

/// The devices that are meant; not more than may be changed at once.
///
/// # Errors
/// When there are more.
pub(crate) async fn ids_of(app: &Shared, which: DeviceQuery) -> Result<Vec<String>, Problem> {
    let filter = which.filter()?;
    let ids = app.db.read(move |tx| list::ids(tx, &filter, MOST_AT_ONCE + 1)).await?;
    not_too_many(&ids)?;
    Ok(ids)
}

fn not_too_many(ids: &[String]) -> Result<(), Problem> {
    match ids.len() {
        0..=MOST_AT_ONCE => Ok(()),
        _ => Err(Problem::invalid(format!("at most {MOST_AT_ONCE} devices at once; narrow it down"))),
    }
}

/// Changes many devices, all or none, and tells everybody. Says how many.
///
/// # Errors
/// When one of them cannot be changed so.
pub(crate) async fn change_many(
    app: &Shared,
    caller: Caller,
    ids: Vec<String>,
    change: Change,
) -> Result<usize, Problem> {
    not_too_many(&ids)?;
    let ids = ids.iter().map(|id| device_id(app, id)).collect::<Result<Vec<_>, _>>()?;
    let (devices, now) = (ids.len(), app.clock.now());
    let changed = app.db.write(move |tx| {
        let each = ids.iter().map(|id| edit::change(tx, &caller, id, &change, now));
        each.collect::<Result<Vec<_>, _>>()
    });
    changed.await?.into_iter().for_each(|changes| changes.tell(app));
    Ok(devices)
}
