//! `/devices/{id}`: one device: what it runs, what happened to it, and what can be done about it.

use crate::db::Connection;
use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use otaru_api::{
    ChangeDevice, Cursor, DeploymentInShort, DeviceCertificate, DeviceDetails, DeviceEvent, Release,
    Timestamp, TrustedCa,
};
use otaru_format::partition::SlotName;
use serde_json::Value;

use super::admission::{AdminVisitor, OperatorVisitor};
use super::devices::Row;
use super::fields::{Form, Query, tags};
use super::page::{Page, after, draw, sentence};
use super::secret::SecretPage;
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::Shared;
use crate::devices::attempts;
use crate::devices::commands;
use crate::devices::details::{and_contested, details};
use crate::devices::history;
use crate::devices::remarks::LoginChange;
use crate::devices::rows;
use crate::devices::trusted;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::releases;
use crate::tls::KnownCa;

/// Events on a page.
const ROWS: u32 = 40;
/// Releases that are offered for it.
const RELEASES: u32 = 30;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/devices/{id}", get(page))
        .route("/devices/{id}/label", post(rename))
        .route("/devices/{id}/tags", post(add_tags))
        .route("/devices/{id}/tags/remove", post(remove_tag))
        .route("/devices/{id}/retire", post(retire))
        .route("/devices/{id}/unretire", post(unretire))
        .route("/devices/{id}/password", post(password))
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    shell: Shell,
    row: Row,
    /// Of its last report, what there is a word for.
    facts: Vec<(&'static str, String)>,
    /// Time of the last boot.
    started: Option<Timestamp>,
    /// Why it last failed, in its own words.
    fault: Option<String>,
    /// Warning that other boards use its name.
    contested: Option<String>,
    steps: Vec<Step>,
    older: Option<Cursor>,
    newest: bool,
    deployments: Vec<DeploymentInShort>,
    /// Certificates that it logs in with.
    certificates: Vec<String>,
    /// Releases that it could run instead.
    releases: Vec<Release>,
    /// Whether it runs the newest of them all, so that each of these would be a step back.
    runs_newest: bool,
    remarks: Remarks,
}

/// Remarks on what may be done to its login.
struct Remarks {
    made: Option<&'static str>,
    ended: Option<&'static str>,
    restored: Option<&'static str>,
}

/// Something that happened to it, as the page tells it.
struct Step {
    at: Timestamp,
    tone: Tone,
    what: String,
    more: Vec<String>,
    /// Of an attempt at an update, from its beginning on.
    steps: Vec<Self>,
}

struct Read {
    details: DeviceDetails,
    reported_at: Option<Timestamp>,
    history: otaru_api::Page<DeviceEvent>,
    releases: Vec<Release>,
}

fn read(tx: &Connection, id: &otaru_rollout::DeviceId, before: Option<i64>) -> Result<Read, Problem> {
    let details = details(tx, id)?;
    let history = history::list(tx, id, before, ROWS)?;
    let device = &details.device;
    let fitting = releases::Filter {
        product: Some(device.product.clone()),
        chip: Some(device.chip.clone()),
        version: None,
        yanked: Some(false),
    };
    let releases = releases::rows::list(tx, &fitting, None, RELEASES)?;
    Ok(Read { reported_at: rows::reported_at(tx, id)?, details, history, releases })
}

async fn page(
    State(app): State<Shared>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(fields): Query,
) -> Page {
    let id = commands::device_id(&app, &id)?;
    let wanted = PageQuery { limit: None, cursor: fields.get("cursor").map(str::to_owned) };
    let before = wanted.after::<i64>()?;
    let live = format!("device/{id} release");
    let Read { details, reported_at, history, releases } =
        app.db.read(move |tx| read(tx, &id, before)).await?;
    let details = and_contested(details, &app);
    let row = Row::of(&app, details.device);
    let image = row.device.image.clone().unwrap_or_default();
    draw(&DevicePage {
        shell: Shell::new(&visitor, Section::Devices, row.name()).live(if before.is_none() {
            &live
        } else {
            ""
        }),
        facts: details.report.as_ref().map(|report| facts(report, &app.cas.all())).unwrap_or_default(),
        started: started(details.report.as_ref(), reported_at),
        fault: details.report.as_ref().and_then(|report| fault(&report["error"])),
        contested: details.contested.map(|contested| sentence(&contested.detail)),
        steps: history.items.iter().map(step).collect(),
        older: history.next,
        newest: before.is_none(),
        deployments: details.deployments,
        certificates: details.certificates.iter().map(DeviceCertificate::title).collect(),
        runs_newest: releases.first().is_some_and(|newest| newest.image.to_string() == image),
        releases: releases.into_iter().filter(|release| release.image.to_string() != image).collect(),
        row,
        remarks: Remarks {
            made: LoginChange::Made.remark(&app.config),
            ended: LoginChange::Ended.remark(&app.config),
            restored: LoginChange::Restored.remark(&app.config),
        },
    })
}

/// Code and detail of a fault in a report.
fn fault(error: &Value) -> Option<String> {
    let code = show::words(error["code"].as_str()?);
    match error["detail"].as_str().unwrap_or_default() {
        "" => Some(code),
        detail => Some(format!("{code}: {detail}")),
    }
}

fn slot(report: &Value) -> Option<String> {
    let slot = report["slot"].as_u64()?;
    Some(SlotName(slot.try_into().ok()?).to_string())
}

fn facts(report: &Value, known: &[KnownCa]) -> Vec<(&'static str, String)> {
    let text = |name: &str| report[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let confirmed = report["confirmed"].as_bool().map(|yes| if yes { "yes" } else { "not yet" }.to_owned());
    let signal = report["rssi"].as_i64().map(|dbm| format!("{dbm} dBm, {}", strength(dbm)));
    let bytes = |name: &str| report[name].as_u64().map(|bytes| show::many(bytes, "byte"));
    let trusts = trusted::of_report(Some(report), known);
    let trusts: Vec<String> = trusts.iter().map(TrustedCa::title).collect();
    let dates = report["tls"]["dates"].as_str().map(show::words);
    let all = [
        ("Slot", slot(report)),
        ("Confirmed", confirmed),
        ("Reset reason", text("boot").map(|boot| show::words(&boot))),
        ("Wi-Fi signal", signal),
        ("Least free heap", bytes("free_heap")),
        ("Least free stack", bytes("free_stack")),
        ("Trusts", Some(trusts.join(", ")).filter(|text| !text.is_empty())),
        ("Certificate dates", dates),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

/// Returns the time at which a device started, from its uptime when it reported.
fn started(report: Option<&Value>, reported_at: Option<Timestamp>) -> Option<Timestamp> {
    let uptime = report?["uptime"].as_i64()?.checked_mul(1_000)?;
    Timestamp::from_millis(reported_at?.millis().checked_sub(uptime)?)
}

/// Returns in a word what a signal strength in dBm is good for.
fn strength(dbm: i64) -> &'static str {
    match dbm {
        -55.. => "excellent",
        -67..=-56 => "good",
        -75..=-68 => "fair",
        _ => "weak",
    }
}

fn step(happened: &DeviceEvent) -> Step {
    let steps = happened.steps.iter();
    let steps = steps.map(|step| told(step.at, &step.kind, &step.detail)).collect();
    Step { steps, ..told(happened.at, &happened.kind, &happened.detail) }
}

fn told(at: Timestamp, kind: &str, detail: &Value) -> Step {
    let by = detail["by"].as_str().map(|name| format!("by {name}"));
    let (tone, what, more) = match kind {
        "report" => reported(detail),
        "online" => (Tone::Good, "came online".into(), Vec::new()),
        "offline" => (Tone::Calm, "went offline".into(), Vec::new()),
        "retired" => (Tone::Calm, "retired".into(), Vec::from_iter(by)),
        "unretired" => (Tone::Calm, "unretired".into(), Vec::from_iter(by)),
        "label" => {
            let label = detail["label"].as_str();
            let what = label.map_or("name removed".to_owned(), |label| format!("renamed to “{label}”"));
            (Tone::Calm, what, Vec::from_iter(by))
        }
        "tags" => (Tone::Calm, tags_changed(detail), Vec::from_iter(by)),
        "registered" => (Tone::Calm, "registered".into(), with_key(detail)),
        "claimed" => (Tone::Busy, "received a password in exchange for a fleet key".into(), with_key(detail)),
        "claim_allowed" => {
            (Tone::Calm, "can be claimed with a fleet key for one hour".into(), Vec::from_iter(by))
        }
        other => (Tone::Calm, show::words(other), Vec::new()),
    };
    Step { at, tone, what, more, steps: Vec::new() }
}

/// With which fleet key something was done, and from where.
fn with_key(detail: &Value) -> Vec<String> {
    let key = detail["fleet_key"].as_str().map(|name| format!("fleet key “{name}”"));
    key.into_iter().chain(detail["address"].as_str().map(|address| format!("from {address}"))).collect()
}

fn tags_changed(detail: &Value) -> String {
    let set = detail["set"].as_object().into_iter().flatten();
    let set = set.map(|(name, value)| match value.as_str().unwrap_or_default() {
        "" => format!("+ {name}"),
        value => format!("+ {name}={value}"),
    });
    let removed = detail["removed"].as_array().into_iter().flatten();
    let removed = removed.filter_map(Value::as_str).map(|name| format!("− {name}"));
    format!("tags: {}", set.chain(removed).collect::<Vec<_>>().join(", "))
}

fn reported(detail: &Value) -> (Tone, String, Vec<String>) {
    let state = detail["state"].as_str().unwrap_or("unknown");
    let mut more = Vec::new();
    if let Some(failed) = detail["failed"]["version"].as_str() {
        let boots = detail["failed"]["boots"].as_u64().unwrap_or(0);
        more.push(format!("image {failed} failed after {}", show::many(boots, "boot")));
    }
    more.extend(fault(&detail["error"]));
    if matches!(state, "idle" | "trial") {
        more.extend(detail["boot"].as_str().map(|boot| format!("reset reason: {}", show::words(boot))));
    }
    more.extend(slot(detail).map(|slot| format!("in {slot}")));
    (show::tone_of_state(state), attempts::told(detail), more)
}

async fn change(app: &Shared, visitor: Visitor, id: &str, change: ChangeDevice, done: &str) -> Response {
    let changed = commands::change(app, visitor.caller, id, change).await;
    after(changed.map(|_| done.to_owned()), &format!("/devices/{id}"))
}

async fn rename(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<String>,
    Form(fields): Form,
) -> Response {
    let label = ChangeDevice { label: Some(fields.text("label").to_owned()), ..ChangeDevice::default() };
    change(&app, visitor, &id, label, "Name changed.").await
}

async fn add_tags(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<String>,
    Form(fields): Form,
) -> Response {
    let tags = ChangeDevice { tags: tags(fields.text("tags")), ..ChangeDevice::default() };
    change(&app, visitor, &id, tags, "Tags added.").await
}

async fn remove_tag(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<String>,
    Form(fields): Form,
) -> Response {
    let remove = ChangeDevice {
        remove_tags: fields.all("tag").map(str::to_owned).collect(),
        ..ChangeDevice::default()
    };
    change(&app, visitor, &id, remove, "Tag removed.").await
}

async fn retire(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<String>,
) -> Response {
    let retired = commands::retire(&app, visitor.caller, &id).await;
    after(retired.map(|done| with_remarks(format!("{id} was retired."), &done)), &format!("/devices/{id}"))
}

async fn unretire(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path(id): Path<String>,
) -> Response {
    let unretired = commands::unretire(&app, visitor.caller, &id).await;
    let words = format!("{id} was unretired. A device that was refused tries again within a minute.");
    after(unretired.map(|done| with_remarks(words, &done)), &format!("/devices/{id}"))
}

/// Adds the remarks on what was done.
fn with_remarks(done: String, details: &DeviceDetails) -> String {
    let remarks = details.remarks.iter().map(|remark| format!(" {}.", sentence(remark)));
    std::iter::once(done).chain(remarks).collect()
}

async fn password(
    State(app): State<Shared>,
    AdminVisitor(visitor): AdminVisitor,
    Path(id): Path<String>,
) -> Page {
    let text = commands::new_password(&app, visitor.caller.clone(), &id).await?;
    draw(&SecretPage {
        shell: Shell::new(&visitor, Section::Devices, "New password"),
        heading: format!("MQTT login of {id}"),
        text,
        explanation: "This is its password; its user name and client ID are its device ID. The previous password no longer works.",
        remark: LoginChange::Made.remark(&app.config),
        back: format!("/devices/{id}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_roll_back_tells_all() {
        let detail = json!({
            "state": "rolled_back", "version": "1.1.0", "slot": 0, "boot": "panic",
            "error": {"code": "panic", "detail": "at main.rs"}, "failed": {"version": "1.2.0", "boots": 3},
        });
        let (tone, what, more) = reported(&detail);
        assert_eq!((tone, what.as_str()), (Tone::Bad, "rolled back 1.2.0 (runs 1.1.0)"));
        assert_eq!(more, ["image 1.2.0 failed after 3 boots", "panic: at main.rs", "in ota_0"]);
    }
}
