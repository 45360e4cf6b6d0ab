//! `/keys`: tokens for people and scripts, fleet keys for devices that are not known yet.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use otaru_api::{FleetKey, NewFleetKey, NewToken, Role, Token};
use otaru_rollout::Span;

use super::admission::AdminVisitor;
use super::fields::{Form, tags};
use super::page::{Page, after, draw};
use super::secret::SecretPage;
use super::shell::{Section, Shell};
use super::show;
use crate::access::credentials;
use crate::access::fleet_keys;
use crate::access::tokens;
use crate::app::Shared;
use crate::devices::remarks::LoginChange;
use crate::problem::Problem;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/keys", get(page))
        .route("/keys/tokens", post(new_token))
        .route("/keys/tokens/{id}/revoke", post(revoke_token))
        .route("/keys/fleet", post(new_fleet_key))
        .route("/keys/fleet/{id}/revoke", post(revoke_fleet_key))
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    shell: Shell,
    tokens: Vec<Token>,
    fleet_keys: Vec<FleetKey>,
    /// The id of the token that the visitor came with.
    own: String,
    /// Device limit of a fleet key that has none of its own.
    per_fleet_key: u64,
    /// Remark on what a fleet key is good for.
    remark: Option<&'static str>,
}

impl KeysPage {
    fn most(&self, key: &FleetKey) -> u64 {
        key.max_devices.unwrap_or(self.per_fleet_key)
    }

    fn has_expired(&self, token: &Token) -> bool {
        token.expires_at.is_some_and(|end| end.millis() <= self.shell.now)
    }
}

async fn page(State(app): State<Shared>, AdminVisitor(visitor): AdminVisitor) -> Page {
    let (tokens, fleet_keys) =
        app.db.read(|tx| Ok::<_, Problem>((tokens::list(tx)?, fleet_keys::list(tx)?))).await?;
    let shell = Shell::new(&visitor, Section::Keys, "Access");
    let per_fleet_key = app.config.device_limits.per_fleet_key;
    let remark = LoginChange::ByFleetKey.remark(&app.config);
    draw(&KeysPage { shell, tokens, fleet_keys, own: visitor.caller.token, per_fleet_key, remark })
}

async fn new_token(
    State(app): State<Shared>,
    AdminVisitor(visitor): AdminVisitor,
    Form(fields): Form,
) -> Page {
    let role = Role::of_name(fields.text("role")).ok_or_else(|| Problem::invalid("choose a role"))?;
    let days: Option<u32> = fields.parse("days", "Expires in days")?;
    let end = |days: u32| (app.clock.now() + Span::hours(u64::from(days) * 24)).into();
    let new = NewToken { name: fields.text("name").to_owned(), role, expires_at: days.map(end) };
    let (caller, now) = (visitor.caller.clone(), app.clock.now());
    let made = app.db.write(move |tx| credentials::create_token(tx, &caller, new.clone(), now));
    let (token, text) = made.await?;
    draw(&SecretPage {
        shell: Shell::new(&visitor, Section::Keys, "New token"),
        heading: format!("The token “{}”", token.name),
        text,
        explanation: "Use it to log in here or on the command line (otaru login), or in a script.",
        remark: None,
        back: "/keys".into(),
    })
}

async fn revoke_token(
    State(app): State<Shared>,
    AdminVisitor(visitor): AdminVisitor,
    Path(id): Path<String>,
) -> Response {
    let revoked = credentials::revoke_token(&app, &visitor.caller, id).await;
    after(revoked.map(|()| "The token was revoked.".into()), "/keys")
}

async fn new_fleet_key(
    State(app): State<Shared>,
    AdminVisitor(visitor): AdminVisitor,
    Form(fields): Form,
) -> Page {
    let tags = tags(fields.text("tags"));
    let max_devices = fields.parse("max_devices", "Device limit")?;
    let new = NewFleetKey { name: fields.text("name").to_owned(), tags, max_devices };
    let (caller, now) = (visitor.caller.clone(), app.clock.now());
    let made = app.db.write(move |tx| credentials::create_fleet_key(tx, &caller, new.clone(), now));
    let (key, text) = made.await?;
    draw(&SecretPage {
        shell: Shell::new(&visitor, Section::Keys, "New fleet key"),
        heading: format!("The fleet key “{}”", key.name),
        text,
        explanation: "A new device registers with it as its MQTT password and with its device ID as the user name.",
        remark: LoginChange::ByFleetKey.remark(&app.config),
        back: "/keys".into(),
    })
}

async fn revoke_fleet_key(
    State(app): State<Shared>,
    AdminVisitor(visitor): AdminVisitor,
    Path(id): Path<String>,
) -> Response {
    let revoked = credentials::revoke_fleet_key(&app, &visitor.caller, id).await;
    after(
        revoked.map(|()| "The fleet key was revoked; devices that registered with it, and have no login of their own, can no longer connect.".into()),
        "/keys",
    )
}
