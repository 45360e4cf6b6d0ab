//! `/devices`: the fleet as a table: searched, narrowed down, sorted, and changed many at once.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use otaru_api::{ChangeDevice, Cursor, Device, DeviceQuery};

use super::admission::{AdminVisitor, OperatorVisitor};
use super::fields::{Fields, Form, Query, tags};
use super::page::{Complaint, Page, after, draw};
use super::secret::SecretPage;
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::{App, Shared};
use crate::db::Connection;
use crate::devices::commands;
use crate::devices::list::{self, Order, Sort};
use crate::devices::query::filter;
use crate::devices::remarks::LoginChange;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::similar::known;

/// Devices on a page.
const ROWS: u32 = 50;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/devices", get(page).post(add))
        .route("/devices/tags", post(tag))
        .route("/devices/update", post(update))
}

/// A device in a table.
pub(super) struct Row {
    pub(super) device: Device,
    /// Per cent of its download.
    pub(super) progress: Option<u8>,
}

impl Row {
    pub(super) fn of(app: &App, device: Device) -> Self {
        let busy = show::tone_of_state(&device.state) == Tone::Busy;
        let progress = app.recent.progress(&device.id).filter(|_| busy);
        Self { device, progress }
    }

    pub(super) fn name(&self) -> &str {
        self.device.label.as_deref().unwrap_or(&self.device.id)
    }
}

/// A column one can sort by.
struct Column {
    name: &'static str,
    sort: &'static str,
    /// Link that sorts by it.
    href: String,
    /// Present order: `ascending`, `descending` or `none`.
    sorted: &'static str,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    shell: Shell,
    rows: Vec<Row>,
    /// Number of devices on all pages, where that is known.
    total: Option<u64>,
    next: Option<String>,
    /// The first page, where this is another.
    first: Option<String>,
    columns: Vec<Column>,
    products: Vec<String>,
    fields: Fields,
    /// The query that narrows the list down.
    which: String,
    /// Whether anything does.
    narrowed: bool,
    /// Whether there are no devices at all.
    empty: bool,
    broker: String,
    dev: bool,
    /// Remark on a login that is made here.
    remark: Option<&'static str>,
    /// Why the list cannot be made as it was asked for.
    error: Option<Complaint>,
}

/// Names of fields that do not narrow the list down.
const ORDER: [&str; 3] = ["sort", "descending", "cursor"];

async fn page(State(app): State<Shared>, visitor: Visitor, Query(fields): Query) -> Page {
    let (sort, bad_sort) = match sort(&fields) {
        Ok(sort) => (sort, None),
        Err(problem) => (Sort::default(), Some(problem)),
    };
    let wanted = PageQuery { limit: Some(ROWS), cursor: fields.get("cursor").map(str::to_owned) };
    let order = Order { sort, descending: fields.is("descending"), limit: ROWS, ..Order::default() };
    let order = order.beginning_after(wanted.after()?)?;
    let filter = bad_sort.map_or_else(|| fields.to::<DeviceQuery>().and_then(filter), Err);
    let (filter, error) = match filter {
        Ok(filter) => (Some(filter), None),
        Err(problem) => (None, Some(Complaint::from(problem))),
    };
    let counts = app.counted.of_large();
    let read = move |tx: &Connection| {
        filter.map(|filter| list::list(tx, &filter, &order, counts.as_ref())).transpose()
    };
    let (found, fleet) = (app.db.read(read).await?, app.counted.get().await?);
    let (items, next, total) =
        found.map_or((Vec::new(), None, Some(0)), |page| (page.items, page.next, page.total));
    let which = fields.query_without(&ORDER);
    let narrowed = !which.is_empty();
    let mut products: Vec<String> = fleet.versions.iter().map(|version| version.product.clone()).collect();
    products.sort();
    products.dedup();
    products.retain(|product| !product.is_empty());
    draw(&DevicesPage {
        shell: Shell::new(&visitor, Section::Devices, "Devices").live("device release"),
        rows: items.into_iter().map(|device| Row::of(&app, device)).collect(),
        total,
        next: next.map(|cursor| page_at(&fields, &cursor)),
        first: fields.get("cursor").map(|_| format!("/devices?{}", fields.query_without(&["cursor"]))),
        columns: columns(&fields, sort),
        empty: fleet.total == 0 && !narrowed,
        products,
        which,
        narrowed,
        broker: app.broker(),
        dev: app.config.dev,
        remark: LoginChange::Made.remark(&app.config),
        fields,
        error,
    })
}

fn page_at(fields: &Fields, cursor: &Cursor) -> String {
    let rest = fields.query_without(&["cursor"]);
    let and = if rest.is_empty() { "" } else { "&" };
    format!("/devices?{rest}{and}cursor={cursor}")
}

/// Returns the order that is asked for, by the names that the API has.
fn sort(fields: &Fields) -> Result<Sort, Problem> {
    let named = fields.get("sort").map(str::to_owned);
    let named = known("sort", named, Sort::ALL.map(Sort::as_str))?;
    let sort = named.and_then(|name| Sort::ALL.into_iter().find(|sort| sort.as_str() == name));
    Ok(sort.unwrap_or_default())
}

fn columns(fields: &Fields, sort: Sort) -> Vec<Column> {
    let all = [
        ("Device", "label", Sort::Label),
        ("Version", "version", Sort::Version),
        ("State", "state", Sort::State),
        ("Last change", "last_seen", Sort::LastSeen),
    ];
    let rest = fields.query_without(&ORDER);
    let column = |(name, key, by): (&'static str, &'static str, Sort)| {
        let now = by == sort || (by == Sort::Label && sort == Sort::Id);
        let down = fields.is("descending");
        // What was last is what one looks for first.
        let next_down = if now { !down } else { by == Sort::LastSeen };
        let and = if rest.is_empty() { "" } else { "&" };
        let descending = if next_down { "&descending=1" } else { "" };
        Column {
            name,
            sort: key,
            href: format!("/devices?{rest}{and}sort={key}{descending}"),
            sorted: match (now, down) {
                (false, _) => "none",
                (true, false) => "ascending",
                (true, true) => "descending",
            },
        }
    };
    all.into_iter().map(column).collect()
}

/// The devices that a form means: those that are ticked, or all that its list shows.
async fn meant(app: &Shared, fields: &Fields) -> Result<Vec<String>, Problem> {
    if fields.is("all") {
        let which: DeviceQuery = Fields::read(fields.text("which").as_bytes()).to()?;
        return commands::matching(app, which).await;
    }
    let ids: Vec<String> = fields.all("device").map(str::to_owned).collect();
    if ids.is_empty() {
        return Err(Problem::invalid("select devices first"));
    }
    Ok(ids)
}

fn back(fields: &Fields) -> String {
    match fields.get("which") {
        Some(which) => format!("/devices?{}", Fields::read(which.as_bytes()).query_without(&[])),
        None => "/devices".into(),
    }
}

async fn tag(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Form(fields): Form,
) -> Response {
    after(tag_them(&app, &visitor, &fields).await, &back(&fields))
}

async fn tag_them(app: &Shared, visitor: &Visitor, fields: &Fields) -> Result<String, Problem> {
    let tags = tags(fields.text("tags"));
    if tags.is_empty() {
        return Err(Problem::invalid("enter tags, such as site=berlin, canary"));
    }
    let ids = meant(app, fields).await?;
    let remove = fields.text("do") == "remove";
    let change = match remove {
        true => ChangeDevice { remove_tags: tags.into_keys().collect(), ..ChangeDevice::default() },
        false => ChangeDevice { tags, ..ChangeDevice::default() },
    };
    let changed = commands::change_many(app, visitor.caller.clone(), ids, change).await?;
    let done = if remove { "Tags removed from" } else { "Tags added to" };
    Ok(format!("{done} {}.", show::many(changed as u64, "device")))
}

/// On to a new rollout for these devices: those that are ticked on a page go along by name, a whole list by what it was made with.
async fn update(
    State(app): State<Shared>,
    OperatorVisitor(_): OperatorVisitor,
    Form(fields): Form,
) -> Response {
    let ids = match meant(&app, &fields).await {
        Ok(ids) => ids,
        Err(problem) => return after(Err(problem), &back(&fields)),
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    match fields.is("all") {
        true => query.append_pair("matching", fields.get("which").unwrap_or("all=1")),
        false => query.extend_pairs(ids.iter().map(|id| ("device", id))),
    };
    Redirect::to(&format!("/rollouts/new?{}", query.finish())).into_response()
}

async fn add(State(app): State<Shared>, AdminVisitor(visitor): AdminVisitor, Form(fields): Form) -> Page {
    let id = commands::device_id(&app, fields.text("id"))?;
    let label = fields.get("label").map(str::to_owned);
    let change = ChangeDevice { label, tags: tags(fields.text("tags")), remove_tags: Vec::new() };
    let (caller, now) = (visitor.caller.clone(), app.clock.now());
    let most = app.config.device_limits.devices;
    let added = app.db.write(move |tx| commands::add(tx, &caller, &id, &change, most, now));
    let (device, password) = added.await?;
    draw(&SecretPage {
        shell: Shell::new(&visitor, Section::Devices, "New device"),
        heading: format!("MQTT login of {}", device.id),
        text: password,
        explanation: "This is its password; its user name and client ID are its device ID. Enter them in its settings.",
        remark: LoginChange::Made.remark(&app.config),
        back: format!("/devices/{}", device.id),
    })
}
