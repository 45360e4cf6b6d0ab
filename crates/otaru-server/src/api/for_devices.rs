//! `/claim` and `/devices/{id}/status`: what devices themselves ask for, and who provisions them.

use axum::Json;
use axum::extract::{DefaultBodyLimit, FromRequest as _, FromRequestParts as _, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use otaru_api::{Claim, DeviceLogin, Orders, Role};
use otaru_format::name::MAX_NAME;
use otaru_format::status::Status;
use otaru_rollout::DeviceId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::devices as logins;
use crate::access::devices::Refused;
use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::bounds::NoRoom;
use crate::devices::commands::device_id;
use crate::devices::remarks::LoginChange;
use crate::http::OverTls;
use crate::problem::Problem;
use crate::rates::Registration;
use crate::reconcile;
use crate::text::cut;
use crate::web::extract::{Body, Path};
use crate::web::login::{logged_in, peer};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    let bound = DefaultBodyLimit::max(reconcile::report::LONGEST);
    OpenApiRouter::new().routes(routes!(report)).layer(bound).routes(routes!(claim))
}

/// Exchange a fleet key for a device login
///
/// For whoever provisions devices. The device's own login takes the place of the fleet key, which opens it no more. A device that
/// is known already is claimed only within an hour after an admin allowed it. A fleet key has so many devices, and a name so many claims.
#[utoipa::path(post, path = "/claim", tag = "fleet keys", request_body = Claim, security(),
    responses((status = 201, body = DeviceLogin)))]
async fn claim(
    State(app): State<Shared>,
    parts: Parts,
    Body(claim): Body<Claim>,
) -> Result<(StatusCode, Json<DeviceLogin>), Problem> {
    let (id, now) = (device_id(&app, &claim.device)?, app.clock.now());
    let (username, from, bounds) = (id.to_string(), peer(&parts), app.config.device_limits);
    // Only who has the key counts for it.
    let (text, device) = (claim.fleet_key.clone(), id.clone());
    let mut counted = None;
    if let Some(outlook) = app.db.read(move |tx| logins::look(tx, &device, &text, bounds)).await? {
        let key = outlook.key;
        app.login_rates.claims.count(&key.id, &id, now)?;
        let room = outlook.room.inspect_err(|why| app.registry.note(&id, why));
        room.map_err(|why| found_no_room(&app, &key.id, why, &parts))?;
        if !outlook.is_known {
            counted = Some(app.registry.count(&key, now).inspect_err(|why| app.registry.note(&id, why))?);
        }
    }
    let device = id.clone();
    let claiming = app.db.write(move |tx| {
        let password = logins::claim(tx, &id, &claim.fleet_key, from, bounds, now)?;
        // Whether or not somebody still waits for the answer.
        counted.iter().for_each(Registration::keep);
        Ok::<_, Problem>(password)
    });
    match claiming.await {
        Ok(password) => {
            // Whoever has it with an older login is not this device any longer.
            app.connections.end_devices([username.clone()]);
            let remarks = LoginChange::Made.remarks(&app.config);
            Ok((StatusCode::CREATED, Json(DeviceLogin { username, password, remarks })))
        }
        Err(problem) if problem.status == 401 => {
            app.login_rates.failed.count(peer(&parts), now)?;
            Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this fleet key is not good"))
        }
        Err(problem) => {
            if problem.is("no-room") {
                app.registry.note(&device, &problem.detail);
            }
            Err(problem)
        }
    }
}

/// Send a device's report over HTTP
///
/// With the device's own login (Basic), or an operator's token. The body is what it would publish on its topic
/// `status`. The same report twice changes nothing.
#[utoipa::path(post, path = "/devices/{id}/status", tag = "devices", params(("id" = String, Path, description = "Id of the device.")),
    security(("device" = []), ("token" = [])),
    request_body(content = Value, example = json!({
        "device": "lamp", "chip": "esp32c3", "state": "idle", "project": "lamp", "version": "1.0.0",
        "image": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "slot": 0, "confirmed": true,
        "boot": "power_on", "uptime": 3
    })),
    responses((status = 200, body = Orders)))]
async fn report(
    State(app): State<Shared>,
    Path(id): Path<String>,
    request: axum::extract::Request,
) -> Result<Json<Orders>, Problem> {
    let id = device_id(&app, &id)?;
    // Who may not is told so before the rest is looked at.
    let (parts, body) = request.into_parts();
    may_report(&app, &id, &parts).await?;
    app.polls.count(&id, app.clock.now())?;
    let over_tls = parts.extensions.get::<OverTls>().is_some();
    let request = axum::extract::Request::from_parts(parts, body);
    let Body(report): Body<Status<String>> = Body::from_request(request, &app).await?;
    let report = reconcile::report::bounded(report);
    if report.device != id.as_str() {
        let mut about = report.device;
        cut(&mut about, MAX_NAME);
        return Err(Problem::invalid(format!("the report is about {about}, not {id}")));
    }
    reconcile::take_poll(&app, &id, report).await?;
    let base = app.device_bases.of(over_tls).to_owned();
    let offer = app.db.read(move |tx| reconcile::standing_offer(tx, &id, &base)).await?;
    Ok(Json(Orders { offer }))
}

async fn may_report(app: &Shared, id: &DeviceId, parts: &Parts) -> Result<(), Problem> {
    if let Some(password) = basic(&parts.headers, id) {
        return match logins::verify(app, id.clone(), password, Some(id.as_str()), peer(parts)).await {
            Ok(_) => {
                logged_in(parts);
                Ok(())
            }
            Err(Refused::NoRoom { key, why }) => Err(found_no_room(app, &key, why, parts)),
            Err(Refused::Unknown(error)) => Err(error.into()),
            Err(Refused::BadLogin | Refused::Certificate(_)) => {
                app.login_rates.failed.count(peer(parts), app.clock.now())?;
                Err(Problem::unauthorized())
            }
        };
    }
    let mut parts = parts.clone();
    let caller = Caller::from_request_parts(&mut parts, app).await?;
    caller.require(Role::Operator)
}

/// Tells that there is no room; that this is asked too often, where it is.
fn found_no_room(app: &Shared, key: &str, why: NoRoom, parts: &Parts) -> Problem {
    let counted = app.login_rates.crowded.count(key, peer(parts), app.clock.now());
    counted.err().unwrap_or_else(|| why.into())
}

/// The password of `Authorization: Basic` (RFC 7617), if the user name is the device's.
fn basic(headers: &HeaderMap, id: &DeviceId) -> Option<String> {
    use base64::Engine as _;
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    (user == id.as_str()).then(|| password.to_owned())
}
