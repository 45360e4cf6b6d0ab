//! `/rollouts/new`: a rollout is put together, with who it would be for beside it.
//!
//! The form sends itself to the same address to be looked at, so that a plan can be shared as a link; only its last button makes
//! something of it.

use std::collections::BTreeSet;

use crate::db::Connection;
use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use otaru_api::{DeviceQuery, NewAttempts, NewRollout, Preview, Release};
use otaru_rollout::{AutoGate, DeviceId, Gate, Limits, Percent, Span, StopRule, Target, Wave, WaveSize};

use super::admission::OperatorVisitor;
use super::fields::{Fields, Form, Query};
use super::notice::Notice;
use super::page::{Complaint, Page, draw, go};
use super::shell::{Section, Shell};
use super::show;
use super::visitor::Visitor;
use crate::app::Shared;
use crate::devices::commands::matching;
use crate::problem::Problem;
use crate::releases::{Filter, rows};
use crate::rollouts::commands;

/// Releases that can be chosen.
const RELEASES: u32 = 100;
/// The share of good ones that opens the next wave, when nobody says.
const SUCCESS: Percent = Percent::whole(95);
/// Waves that the form has room for.
const WAVES: usize = 3;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/rollouts/new", get(page).post(create))
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    shell: Shell,
    releases: Vec<Release>,
    release: Option<Release>,
    /// The rollout that is taken back, instead of a release.
    undo: Option<u64>,
    name: String,
    fields: Fields,
    /// Devices that were chosen one by one.
    devices: Vec<String>,
    /// The list whose devices were chosen.
    matching: Option<String>,
    waves: Vec<String>,
    preview: Option<Preview>,
    /// Whether the preview is asked for once the page is there.
    later: bool,
    /// Why it cannot be so.
    problem: Option<Complaint>,
}

impl PlanPage {
    fn value<'f>(&'f self, name: &str, usual: &'f str) -> &'f str {
        // What is left empty on purpose stays so once the form was sent.
        match self.fields.get(name) {
            Some(text) => text,
            None if self.fields.is("sent") => "",
            None => usual,
        }
    }

    fn is_on(&self, name: &str) -> bool {
        self.fields.is(name)
    }

    fn by_hand(&self) -> bool {
        self.fields.text("gate") == "hand"
    }

    /// Devices of the preview that would be offered something.
    fn hit(&self) -> u64 {
        self.preview.as_ref().map_or(0, |preview| preview.devices.saturating_sub(preview.current))
    }

    fn wave_name(&self, at: &usize) -> String {
        let at = *at;
        let last = self.preview.as_ref().map_or(0, |preview| preview.waves.len().saturating_sub(1));
        if at == last && last > 0 { "the rest".into() } else { format!("wave {}", at + 1) }
    }
}

/// The waves as the form has them: what was written or, before that, what is wise.
fn waves(fields: &Fields) -> Vec<String> {
    let mut waves: Vec<String> = match fields.is("sent") {
        true => fields.all("wave").map(str::to_owned).collect(),
        // Who chooses devices one by one means these.
        false if fields.is("device") => Vec::new(),
        false => vec!["1".into(), "10%".into()],
    };
    waves.resize(WAVES.max(waves.len()), String::new());
    waves
}

async fn page(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Query(fields): Query,
) -> Page {
    show(&app, &visitor, fields, None).await
}

/// The page with this form; `problem` is why it could not be carried out.
async fn show(app: &Shared, visitor: &Visitor, fields: Fields, problem: Option<Problem>) -> Page {
    let read = |tx: &Connection| {
        let filter = Filter { yanked: Some(false), ..Filter::default() };
        rows::list(tx, &filter, None, RELEASES)
    };
    let releases = app.db.read(read).await?;
    let undo = fields.parse::<u64>("undo", "The rollout to roll back")?;
    let chosen = fields.parse::<i64>("release", "The release").unwrap_or_default();
    let release = match (undo, chosen) {
        (Some(_), _) => None,
        (None, Some(id)) => releases.iter().find(|release| release.id == id).cloned(),
        (None, None) => releases.first().cloned(),
    };
    let usual = match (&release, undo) {
        (Some(release), _) => release.title.clone(),
        (None, Some(undo)) => format!("Rollback of rollout {undo}"),
        (None, None) => String::new(),
    };
    let (mut preview, mut problem) = (None, problem);
    // Who opens the page of a large fleet need not wait until all were asked: the page asks for that itself.
    let is_one = release.is_some() || undo.is_some();
    let later = is_one && problem.is_none() && !fields.is("sent") && app.counted.of_large().is_some();
    if is_one && !later {
        let looked =
            async { commands::preview(app, new(app, &fields, release.as_ref(), &usual).await?, None).await };
        match looked.await {
            Ok(found) => preview = Some(found),
            Err(bad) => problem = problem.or(Some(bad)),
        }
    }
    // A name that the form made up for one release is not one for another.
    let name = match fields.get("name") {
        Some(name) if fields.get("usual") != Some(name) => name.to_owned(),
        _ => usual,
    };
    draw(&PlanPage {
        shell: Shell::new(visitor, Section::Rollouts, "New rollout"),
        releases,
        release,
        undo,
        name,
        devices: fields.all("device").map(str::to_owned).collect(),
        matching: fields.get("matching").map(str::to_owned),
        waves: waves(&fields),
        fields,
        preview,
        later,
        problem: problem.map(Complaint::from),
    })
}

/// A rollout as the form describes it.
async fn new(
    app: &Shared,
    fields: &Fields,
    release: Option<&Release>,
    usual: &str,
) -> Result<NewRollout, Problem> {
    let devices = chosen(app, fields).await?;
    let undo = fields.parse("undo", "The rollout to roll back")?;
    let target = Target {
        tags: fields.pointed("tags", "Tags")?,
        // Firmware is for one product and one chip.
        product: release.map(|release| release.product.clone()),
        chips: release.map(|release| release.chip.clone()).into_iter().collect(),
        versions: fields.pointed("versions", "Versions")?,
        devices,
        percent: fields.parse("percent", "Share of matching devices")?.unwrap_or(Percent::ALL),
    };
    Ok(NewRollout {
        name: fields.get("name").unwrap_or(usual).to_owned(),
        release: release.map(|release| release.id),
        undo,
        target,
        waves: plan_waves(fields)?,
        limits: Limits {
            concurrency: fields.parse("concurrency", "Devices at once")?,
            starts_per_minute: fields.parse("rate", "Starts per minute")?,
            window: fields.parse("window", "Time window")?,
        },
        stop: stop(fields)?,
        attempts: NewAttempts::default(),
        priority: fields.parse("priority", "Priority")?.unwrap_or(0),
        salt: String::new(),
        start_at: fields.moment("start", "Start", app.clock.now())?,
        end_at: fields.moment("end", "End", app.clock.now())?,
        continuous: fields.is("continuous"),
        force: fields.is("force"),
        draft: fields.text("do") == "draft",
    })
}

/// The devices that were chosen one by one, or by a list.
async fn chosen(app: &Shared, fields: &Fields) -> Result<Option<BTreeSet<DeviceId>>, Problem> {
    let ids: Vec<String> = match fields.get("matching") {
        Some(query) => {
            let which: DeviceQuery = Fields::read(query.as_bytes()).to()?;
            matching(app, which).await?
        }
        None => fields.all("device").map(str::to_owned).collect(),
    };
    let listed = fields.is("matching") || !ids.is_empty();
    Ok(listed.then(|| ids.iter().map(|id| DeviceId::from(id.as_str())).collect()))
}

fn plan_waves(fields: &Fields) -> Result<Vec<Wave>, Problem> {
    let gate = if fields.text("gate") == "hand" {
        Gate::Hand
    } else {
        Gate::Auto(AutoGate {
            success: fields.parse("success", "Success rate needed")?.unwrap_or(SUCCESS),
            soak: fields.span("soak", "Soak time")?.unwrap_or(Span::ZERO),
            // Who is away is not waited for.
            patience: Span::ZERO,
        })
    };
    let waves = waves(fields).into_iter().filter(|text| !text.is_empty());
    waves.map(|text| Ok(Wave { size: size(&text)?, gate })).collect()
}

/// A wave's size: `5` devices, or `10%`.
fn size(text: &str) -> Result<WaveSize, Problem> {
    let bad =
        || Problem::invalid(format!("Wave: `{text}` is neither a number of devices nor a share such as 10%"));
    match text.strip_suffix('%') {
        Some(share) => share.trim().parse().map(WaveSize::Percent).map_err(|_| bad()),
        None => text.parse().map(WaveSize::Devices).map_err(|_| bad()),
    }
}

fn stop(fields: &Fields) -> Result<Option<StopRule>, Problem> {
    if !fields.is("sent") {
        return Ok(Some(StopRule { failures: Percent::whole(10), minimum: 2 }));
    }
    let failures: Option<Percent> = fields.parse("stop", "Failure rate")?;
    let minimum = fields.parse("minimum", "Number of results")?.unwrap_or(1);
    Ok(failures.map(|failures| StopRule { failures, minimum }))
}

async fn create(
    State(app): State<Shared>,
    OperatorVisitor(visitor): OperatorVisitor,
    Form(fields): Form,
) -> Response {
    match make(&app, &visitor, &fields).await {
        Ok(id) => {
            let text = if fields.text("do") == "draft" { "Draft saved." } else { "Rollout created." };
            go(&format!("/rollouts/{id}"), &Notice::done(text))
        }
        // Nothing that was filled in is lost.
        Err(problem) => match show(&app, &visitor, fields, Some(problem)).await {
            Ok(response) => (axum::http::StatusCode::UNPROCESSABLE_ENTITY, response).into_response(),
            Err(failure) => failure.into_response(),
        },
    }
}

async fn make(app: &Shared, visitor: &Visitor, fields: &Fields) -> Result<u64, Problem> {
    let undo = fields.is("undo");
    let release = match fields.parse::<i64>("release", "The release")? {
        _ if undo => None,
        None => return Err(Problem::invalid("choose a release")),
        Some(id) => {
            let found = app.db.read(move |tx| rows::get(tx, id)).await?;
            Some(found.ok_or_else(|| Problem::not_found(format_args!("release {id}")))?)
        }
    };
    let new = new(app, fields, release.as_ref(), fields.text("name")).await?;
    Ok(commands::create(app, visitor.caller.clone(), new).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_read_as_people_write_them() {
        assert_eq!(size("5").unwrap(), WaveSize::Devices(5));
        assert_eq!(size("10 %").unwrap(), WaveSize::Percent(Percent::whole(10)));
        for bad in ["", "x", "-1", "101%", "5 devices"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_form_that_was_not_sent_yet_has_what_is_wise() {
        let fresh = Fields::default();
        assert_eq!(waves(&fresh), ["1", "10%", ""]);
        assert!(stop(&fresh).unwrap().is_some());
        let sent = Fields::read(b"sent=1&wave=&stop=");
        assert_eq!(waves(&sent), ["", "", ""]);
        assert_eq!(stop(&sent).unwrap(), None);
    }
}
