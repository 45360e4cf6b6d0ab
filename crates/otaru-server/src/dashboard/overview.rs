//! `/`: how the fleet is, and what is under way.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use otaru_api::{Device, FleetCounts, VersionCount};

use super::chart::{self, Part};
use super::page::{Page, draw, sentence};
use super::rollouts::Row;
use super::shell::{Section, Shell};
use super::show::{self, Tone};
use super::visitor::Visitor;
use crate::app::{App, Shared};
use crate::db::{Connection, DbError};
use crate::devices::filter::Filter;
use crate::devices::list::{self, Order, Sort};
use crate::devices::remarks::LoginChange;
use crate::devices::trusted;
use crate::rollouts::rows;

/// Versions that are shown; the rest is one line.
const VERSIONS: usize = 8;
/// Devices that need attention that are shown.
const TROUBLED: u32 = 6;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/", get(show))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    fleet: FleetCounts,
    health: Vec<Part>,
    versions: Vec<Version>,
    /// Devices that run other versions than those shown.
    others: u64,
    rollouts: Vec<Row>,
    troubled: Vec<Device>,
    /// Number of devices that need attention.
    troubles: u64,
    releases: u64,
    /// Warning that there is no room for more devices, or was none for some.
    no_room: Option<String>,
    /// CAs that are about to end.
    ending: Vec<String>,
    /// Address of the broker, for the hint how to connect a first device.
    broker: String,
    dev: bool,
    /// Remark on logins that are made here.
    remark: Option<&'static str>,
}

/// A version, and how many run it.
struct Version {
    product: String,
    parts: [Part; 1],
}

/// Everything that was read for the page at once.
struct Read {
    rollouts: Vec<Row>,
    troubled: Vec<Device>,
    releases: u64,
}

fn read(tx: &Connection) -> Result<Read, DbError> {
    let alive = rows::alive(tx)?.into_iter().rev().map(|id| rows::readable(tx, id));
    let alive = alive.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let troubled = Filter { health: Some("troubled".into()), ..Filter::default() };
    let order =
        Order { sort: Sort::LastSeen, descending: true, after: None, limit: TROUBLED, without_total: true };
    let page = list::list(tx, &troubled, &order, None)?;
    Ok(Read {
        rollouts: alive.map(|kept| Row::of(tx, kept)).collect::<Result<_, _>>()?,
        troubled: page.items,
        releases: crate::releases::rows::count(tx, &crate::releases::Filter::default())?,
    })
}

async fn show(State(app): State<Shared>, visitor: Visitor) -> Page {
    let (read, fleet) = (app.db.read(read).await?, app.counted.get().await?);
    let troubles = fleet.health.get("troubled").copied().unwrap_or(0);
    let shown = fleet.versions.iter().filter(|version| !version.version.is_empty()).take(VERSIONS);
    let versions: Vec<Version> = shown.map(version).collect();
    let counted: u64 = versions.iter().map(|version| version.parts[0].number).sum();
    let ending = trusted::ending_now(&app).await?;
    draw(&OverviewPage {
        ending: ending.iter().map(|ca| sentence(&ca.detail)).collect(),
        no_room: no_room(&app, fleet.total),
        shell: Shell::new(&visitor, Section::Overview, "Overview").live("device rollout deployment release"),
        health: health(&fleet),
        others: fleet.total.saturating_sub(counted),
        versions,
        fleet,
        rollouts: read.rollouts,
        troubled: read.troubled,
        troubles,
        releases: read.releases,
        broker: app.broker(),
        remark: LoginChange::Made.remark(&app.config),
        dev: app.config.dev,
    })
}

/// Says that the registry is full, or turned devices away since the server started.
fn no_room(app: &App, total: u64) -> Option<String> {
    let (most, refused) = (app.config.device_limits.devices, app.registry.refused());
    let mut text = String::new();
    if total >= most {
        text.push_str(&format!(
            "The server has {}, as many as it takes: retire some, or start it with a higher --max-devices. ",
            show::many(total, "device")
        ));
    }
    if refused > 0 {
        text.push_str(&format!(
            "New devices were turned away {} since the server started; the log says why.",
            show::many(refused, "time")
        ));
    }
    Some(text).filter(|text| !text.is_empty())
}

fn version(counted: &VersionCount) -> Version {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("product", &counted.product).append_pair("version", &counted.version);
    if let Some(image) = &counted.image {
        query.append_pair("image", image);
    }
    let query = query.finish();
    let part = Part {
        name: counted.title(),
        number: counted.devices,
        tone: Tone::Busy,
        href: format!("/devices?{query}"),
    };
    Version { product: counted.product.clone(), parts: [part] }
}

fn health(fleet: &FleetCounts) -> Vec<Part> {
    let part = |name: &str, tone| Part {
        name: show::health(name).into(),
        number: fleet.health.get(name).copied().unwrap_or(0),
        tone,
        href: format!("/devices?health={name}"),
    };
    vec![
        part("well", Tone::Good),
        part("updating", Tone::Busy),
        part("troubled", Tone::Bad),
        part("away", Tone::Calm),
    ]
}
