//! `/rollouts/{id}`: one rollout: its waves as they go, who failed and why, and what can be done about it.

use crate::db::Connection;
use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use otaru_api::{Cursor, Deployment, Page as Listed, RolloutEvent, Timestamp};
use otaru_rollout::{
    AutoGate, Control, DeviceId, Gate, GateState, Held, Outcome, Percent, RolloutId, RolloutSpec, Standing,
    Tally, WaveSize,
};
use serde_json::Value;

use super::admission::OperatorVisitor;
use super::chart::{self, Part};
use super::fields::{Form, Query};
use super::page::{Failure, Page, after, draw};
use super::rollouts::{Row, parts};
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::Shared;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::rollouts::commands;
use crate::rollouts::deployments;
use crate::rollouts::rows;
use crate::rollouts::view::RolloutView;

/// Devices on a page.
const ROWS: u32 = 25;
/// Events of the rollout, of which so much is shown.
const EVENTS: u32 = 30;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/rollouts/{id}", get(page))
        .route("/rollouts/{id}/{action}", post(act))
        .route("/rollouts/{id}/retry/{device}", post(retry))
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutPage {
    shell: Shell,
    row: Row,
    waves: Vec<WaveShown>,
    reasons: Vec<(String, u64)>,
    deployments: Vec<Deployment>,
    next: Option<Cursor>,
    standing: String,
    error: String,
    steps: Vec<Step>,
    facts: Vec<(&'static str, String)>,
    /// The thing it waits for, if it does not go on by itself.
    hint: Option<(Tone, String)>,
}

impl RolloutPage {
    fn is(&self, phases: &[&str]) -> bool {
        phases.contains(&self.row.view.phase.as_str())
    }

    /// Returns the end of the link to the list that is shown.
    fn needle(&self) -> String {
        format!("?standing={}#", self.standing)
    }

    /// Whether the next wave can be opened now.
    fn can_advance(&self) -> bool {
        self.is(&["running"]) && self.row.view.wave + 1 < self.row.view.tallies.len()
    }

    fn can_retry(&self, deployment: &Deployment) -> bool {
        let failed = show::tone_of_standing(deployment.standing.as_str()) == Tone::Bad
            || deployment.standing == Standing::Finished(Outcome::Cancelled);
        failed && self.is(&["running", "paused", "stopped"])
    }
}

/// A wave as the page shows it.
struct WaveShown {
    name: String,
    size: String,
    /// The gate between it and the next.
    gate: String,
    tone: Tone,
    /// `open`, `next`, `later`.
    state: &'static str,
    parts: Vec<Part>,
    devices: u64,
    done: u64,
}

/// Something that happened to it, as the page tells it.
struct Step {
    at: Timestamp,
    tone: Tone,
    what: String,
    by: Option<String>,
}

struct Read {
    view: RolloutView,
    deployments: Listed<Deployment>,
    events: Listed<RolloutEvent>,
}

async fn page(
    State(app): State<Shared>,
    visitor: Visitor,
    Path(id): Path<u64>,
    Query(fields): Query,
) -> Page {
    let wanted = PageQuery { limit: None, cursor: fields.get("cursor").map(str::to_owned) };
    let after = wanted.after::<String>()?;
    let (standing, error) =
        (fields.get("standing").map(str::to_owned), fields.get("error").map(str::to_owned));
    let read = move |tx: &Connection| {
        let id = RolloutId(id);
        let view = RolloutView::read(tx, id)?;
        let (standing, error) = (standing.as_deref(), error.as_deref());
        let deployments = deployments::list(tx, id, standing, error, after.as_deref(), ROWS)?;
        Ok::<_, Problem>(Read { view, deployments, events: rows::events(tx, id, None, EVENTS)? })
    };
    let Read { view, deployments, events } = app.db.read(read).await?;
    let reasons = view.reasons.clone().unwrap_or_default();
    draw(&RolloutPage {
        shell: Shell::new(&visitor, Section::Rollouts, view.name.clone())
            .live(format!("rollout/{id} deployment/{id}")),
        waves: waves(&view),
        reasons: reasons.into_iter().collect(),
        deployments: deployments.items,
        next: deployments.next,
        standing: fields.text("standing").to_owned(),
        error: fields.text("error").to_owned(),
        steps: events.items.iter().map(|event| step(event, &view.spec)).collect(),
        facts: facts(&view.spec, visitor.now),
        hint: hint(&view, visitor.now),
        row: Row::from(view),
    })
}

fn waves(view: &RolloutView) -> Vec<WaveShown> {
    let last = view.tallies.len().saturating_sub(1);
    view.tallies.iter().enumerate().map(|(at, tally)| wave(view, at, last, tally)).collect()
}

fn wave(view: &RolloutView, at: usize, last: usize, tally: &Tally) -> WaveShown {
    let planned = view.spec.waves.get(at);
    let begun = !matches!(view.phase.as_str(), "draft" | "scheduled");
    let done = tally.succeeded + tally.current;
    let tone = match () {
        () if tally.verdicts().bad > 0 => Tone::Bad,
        () if tally.total() > 0 && done == tally.total() => Tone::Good,
        () if begun && at <= view.wave => Tone::Busy,
        () => Tone::Calm,
    };
    WaveShown {
        name: if at == last && last > 0 { "The rest".into() } else { format!("Wave {}", at + 1) },
        size: planned.map_or_else(|| "all other devices".into(), |wave| size(wave.size)),
        gate: planned.map_or_else(String::new, |wave| gate(wave.gate)),
        state: match () {
            () if begun && at <= view.wave => "open",
            () if at == view.wave + 1 => "next",
            () => "later",
        },
        parts: parts(tally, &format!("/rollouts/{}", view.id)),
        devices: u64::from(tally.total()),
        done: u64::from(done),
        tone,
    }
}

fn size(size: WaveSize) -> String {
    match size {
        WaveSize::Devices(number) => show::many(number, "device"),
        WaveSize::Percent(percent) => format!("{} of all", percent),
    }
}

fn gate(gate: Gate) -> String {
    match gate {
        Gate::Hand => "the next wave is opened manually".into(),
        Gate::Auto(AutoGate { success, soak, .. }) => {
            let soak =
                if soak.0 == 0 { String::new() } else { format!(", after a soak of {}", show::span(soak.0)) };
            format!("the next wave opens at {} success{soak}", success)
        }
    }
}

fn hint(view: &RolloutView, now: i64) -> Option<(Tone, String)> {
    let bad = show::many(view.verdicts.bad, "failure");
    Some(match (view.phase.as_str(), view.gate) {
        ("draft", _) => (Tone::Wait, "A draft: nothing happens until you start it.".into()),
        ("scheduled", _) => (Tone::Wait, "It starts automatically at its start time.".into()),
        ("paused", _) => {
            (Tone::Wait, "Paused: updates under way run to their end, no further device starts.".into())
        }
        ("stopped", _) => {
            (Tone::Bad, format!("Stopped automatically: {}. No further device starts.", broke(view, &bad)))
        }
        ("running", _) if view.retries_hold => (Tone::Wait, retries(view)),
        ("running", GateState::Soaking(since)) => {
            let since = now.saturating_sub(since.0.cast_signed()).max(0).unsigned_abs();
            (
                Tone::Busy,
                format!("The wave has the success rate needed and has soaked for {}.", show::span(since)),
            )
        }
        ("running", GateState::Held(Held::Hand)) => {
            (Tone::Wait, "The wave is done. Open the next wave to continue.".into())
        }
        ("running", GateState::Held(Held::SuccessRate)) => {
            (Tone::Bad, format!("Held: after {bad}, the next wave does not open automatically."))
        }
        ("running", GateState::Held(Held::Unreachable)) => (Tone::Wait, retries(view)),
        ("running", GateState::Held(_)) => {
            (Tone::Wait, "Held: no device of this rollout has shown yet whether the release works.".into())
        }
        ("finishing", _) => (
            Tone::Busy,
            "No further device starts; the rollout completes when the updates under way have ended.".into(),
        ),
        _ => return None,
    })
}

/// The verdicts that decided, beside the rule that they broke.
fn broke(view: &RolloutView, bad: &str) -> String {
    match (view.broke, view.spec.stop) {
        (Some(broke), Some(rule)) => format!(
            "{} among {}; the limit is {} of at least {}",
            show::many(broke.bad, "failure"),
            show::many(broke.all(), "result"),
            rule.failures,
            show::count(rule.minimum)
        ),
        _ => format!("{bad} among {}", show::many(view.verdicts.all(), "result")),
    }
}

fn retries(view: &RolloutView) -> String {
    let many = view.tallies.iter().map(|tally| tally.retrying).sum::<u32>();
    format!(
        "Held: on {} the new image did not reach the broker. They retry automatically, five times in up to five days.",
        show::many(many, "device")
    )
}

fn facts(spec: &RolloutSpec, now: i64) -> Vec<(&'static str, String)> {
    let target = &spec.target;
    let chips = target.chips.iter().cloned().collect::<Vec<_>>().join(", ");
    let moment = |at: otaru_rollout::Time| {
        let at = Timestamp::from(at);
        let word = if at.millis() > now { "" } else { " (past)" };
        format!("{}{word}", at.utc().format("%Y-%m-%d %H:%M:%S UTC"))
    };
    let listed = target.devices.as_ref().map(|devices| match devices.len() {
        0..=3 => devices.iter().map(DeviceId::as_str).collect::<Vec<_>>().join(", "),
        many => show::many(many as u64, "selected device"),
    });
    let all = [
        ("Devices", listed),
        ("Tags", target.tags.as_ref().map(ToString::to_string)),
        ("Product", target.product.clone()),
        ("Chips", Some(chips).filter(|chips| !chips.is_empty())),
        ("Versions", target.versions.as_ref().map(ToString::to_string)),
        ("Share", (target.percent != Percent::ALL).then(|| target.percent.to_string())),
        (
            "Stops at",
            spec.stop.map(|stop| {
                format!("{} failures, of at least {}", stop.failures, show::many(stop.minimum, "result"))
            }),
        ),
        ("Devices at once", spec.limits.concurrency.map(show::count)),
        ("Starts per minute", spec.limits.starts_per_minute.map(show::count)),
        ("Time window", spec.limits.window.map(|window| window.to_string())),
        ("Starts at", spec.start_at.map(moment)),
        ("Ends at", spec.end_at.map(moment)),
        (
            "Per device",
            Some(format!(
                "{} of {}",
                show::many(spec.attempts.count, "attempt"),
                show::span(spec.attempts.timeout.0)
            )),
        ),
        ("Priority", (spec.priority != 0).then(|| spec.priority.to_string())),
        ("Continuous", spec.continuous.then(|| "also devices that match later".into())),
        (
            "Forced",
            spec.force.then(|| "also other products, and devices where the image failed before".into()),
        ),
    ];
    all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

fn step(happened: &RolloutEvent, spec: &RolloutSpec) -> Step {
    let event = &happened.event;
    let (tone, what) = match &event["did"] {
        Value::Null => noticed(&event["notice"], spec),
        Value::String(did) if did == "retry" => {
            (Tone::Calm, format!("retried {}", event["device"].as_str().unwrap_or_default()))
        }
        Value::String(did) => (Tone::Calm, said(did).to_owned()),
        Value::Object(map) => (Tone::Calm, map.keys().next().map_or("", |did| said(did)).to_owned()),
        _ => (Tone::Calm, "changed it".into()),
    };
    Step { at: happened.at, tone, what, by: happened.actor.clone() }
}

fn said(did: &str) -> &str {
    match did {
        "create" => "created it",
        "start" => "started it",
        "pause" => "paused it",
        "resume" => "resumed it",
        "advance" => "opened the next wave",
        "finish" => "asked it to finish",
        "abort" => "aborted it",
        "widen" => "widened it",
        other => other,
    }
}

/// Tells what the engine noticed.
fn noticed(event: &Value, spec: &RolloutSpec) -> (Tone, String) {
    let wave = |value: &Value| match value.as_u64() {
        Some(at) if at >= spec.waves.len() as u64 && at > 0 => "the last wave".to_owned(),
        Some(at) => format!("wave {}", at + 1),
        None => "a wave".to_owned(),
    };
    match event {
        Value::String(name) if name == "started" => (Tone::Busy, "started".into()),
        Value::String(name) if name == "completed" => (Tone::Good, "completed".into()),
        Value::String(name) => (Tone::Calm, show::words(name)),
        Value::Object(map) => match map.iter().next() {
            Some((name, at)) if name == "wave_opened" => (Tone::Busy, format!("{} opened", wave(at))),
            Some((name, at)) if name == "soaking" => {
                (Tone::Busy, format!("{} reached its success rate and soaks", wave(at)))
            }
            Some((name, why)) if name == "held" => {
                (Tone::Wait, format!("held: {}", show::words(why.as_str().unwrap_or_default())))
            }
            Some((name, why)) if name == "waits" => {
                (Tone::Wait, format!("cannot start yet: {}", why.as_str().unwrap_or_default()))
            }
            Some((name, verdicts)) if name == "stopped" => (
                Tone::Bad,
                format!("stopped automatically: {} failed, {} succeeded", verdicts["bad"], verdicts["good"]),
            ),
            Some((name, _)) => (Tone::Calm, show::words(name)),
            None => (Tone::Calm, String::new()),
        },
        _ => (Tone::Calm, "unknown event".into()),
    }
}

async fn act(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path((id, action)): Path<(u64, String)>,
    Form(fields): Form,
) -> Response {
    let (control, done) = match action.as_str() {
        "start" => (Control::Start, "It starts now, or at its start time."),
        "pause" => (Control::Pause, "Rollout paused: no further device starts."),
        "resume" => (Control::Resume, "Rollout resumed."),
        "advance" => (Control::Advance, "Next wave opened."),
        "finish" => (Control::Finish, "The rollout completes when the updates under way have ended."),
        "abort" => (Control::Abort { cancel: fields.is("cancel") }, "Rollout aborted."),
        _ => return Failure::from(Problem::not_found("such action")).into_response(),
    };
    let acted = commands::control(&app, visitor.caller, id, control).await;
    after(acted.map(|_| done.to_owned()), &format!("/rollouts/{id}"))
}

async fn retry(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Path((id, device)): Path<(u64, String)>,
    Form(fields): Form,
) -> Response {
    let one = DeviceId::from(device.as_str());
    let retried = commands::retry(&app, visitor.caller, id, one, fields.is("force"));
    after(retried.await.map(|_| format!("{device} will retry.")), &format!("/rollouts/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_engine_noticed_is_told_in_words() {
        let spec: RolloutSpec = serde_json::from_value(json!({
            "goal": {"image": "00".repeat(32)}, "waves": [{"size": {"devices": 1}, "gate": "hand"}],
        }))
        .unwrap();
        for (notice, words) in [
            (otaru_rollout::Notice::Started, "started"),
            (otaru_rollout::Notice::WaveOpened(0), "wave 1 opened"),
            (otaru_rollout::Notice::WaveOpened(1), "the last wave opened"),
            (otaru_rollout::Notice::Held(Held::NoEvidence), "held: no evidence"),
            (otaru_rollout::Notice::Completed, "completed"),
        ] {
            assert_eq!(noticed(&json!(notice), &spec).1, words);
        }
        let stopped = otaru_rollout::Notice::Stopped(otaru_rollout::Verdicts { good: 1, bad: 2 });
        assert_eq!(noticed(&json!(stopped), &spec).1, "stopped automatically: 2 failed, 1 succeeded");
    }
}
