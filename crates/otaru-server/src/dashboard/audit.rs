//! `/audit`: who did what.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use otaru_api::{AuditEntry, Cursor};
use serde_json::Value;

use super::admission::OperatorVisitor;
use super::fields::Query;
use super::page::{Page, draw};
use super::shell::{Section, Shell};
use super::show;
use crate::access::audit::{self, Filter};
use crate::app::Shared;
use crate::page::PageQuery;

/// Entries on a page.
const ROWS: u32 = 50;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/audit", get(page))
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    entries: Vec<AuditEntry>,
    next: Option<Cursor>,
    actor: String,
    action: String,
    object: String,
    /// Whether it is a part of the log only.
    narrowed: bool,
}

/// The page of a thing.
fn href(object: &str) -> Option<String> {
    let (kind, id) = object.split_once('/')?;
    match kind {
        "device" => Some(format!("/devices/{id}")),
        "release" => Some(format!("/releases/{id}")),
        "rollout" => Some(format!("/rollouts/{id}")),
        _ => None,
    }
}

/// More about an entry, in short.
fn detail(entry: &AuditEntry) -> String {
    let Some(map) = entry.detail.as_object() else {
        return entry.detail.as_str().unwrap_or_default().to_owned();
    };
    let told = map.iter().filter(|(_, value)| !is_empty(value));
    let told = told.map(|(name, value)| match value {
        Value::Bool(_) => show::words(name),
        Value::String(text) => format!("{}: {text}", show::words(name)),
        Value::Object(pairs) => format!("{}: {}", show::words(name), pairs_of(pairs)),
        other => format!("{}: {other}", show::words(name)),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Tags, and what else is names with texts.
fn pairs_of(pairs: &serde_json::Map<String, Value>) -> String {
    let pair = |(name, value): (&String, &Value)| match value.as_str() {
        Some("") => name.clone(),
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    };
    pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

async fn page(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Query(fields): Query,
) -> Page {
    let given = |name| fields.get(name).map(str::to_owned);
    let filter = Filter { actor: given("actor"), action: given("action"), object: given("object") };
    let wanted = PageQuery { limit: Some(ROWS), cursor: given("cursor") };
    let before = wanted.after::<i64>()?;
    let found = app.db.read(move |tx| audit::list(tx, &filter, before, ROWS)).await?;
    draw(&AuditPage {
        shell: Shell::new(&visitor, Section::Audit, "Audit log").live(if before.is_none() {
            "device rollout release"
        } else {
            ""
        }),
        entries: found.items,
        next: found.next,
        actor: fields.text("actor").to_owned(),
        action: fields.text("action").to_owned(),
        object: fields.text("object").to_owned(),
        narrowed: ["actor", "action", "object"].iter().any(|name| fields.is(name)),
    })
}
