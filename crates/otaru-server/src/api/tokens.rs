//! `/me`, `/tokens` and `/fleet-keys`: who may do what.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use otaru_api::{CreatedFleetKey, CreatedToken, FleetKey, Me, NewFleetKey, NewToken, Page, Token};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::credentials;
use crate::access::fleet_keys;
use crate::access::tokens;
use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::remarks::LoginChange;
use crate::idempotency::{Answer, Once};
use crate::problem::Problem;
use crate::web::extract::{Body, IdempotencyKey, Path};
use crate::web::login::Admin;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_fleet_keys, make_fleet_key))
        .routes(routes!(end_fleet_key))
}

/// Get the token that this request was made with
#[utoipa::path(get, path = "/me", tag = "tokens", responses((status = 200, body = Me)))]
async fn me(caller: Caller) -> Json<Me> {
    Json(Me { token: caller.token, name: caller.name, role: caller.role.into() })
}

/// List API tokens, without their secrets
#[utoipa::path(get, path = "/tokens", tag = "tokens", operation_id = "list_tokens",
    responses((status = 200, body = Page<Token>)))]
async fn list(State(app): State<Shared>, _: Admin) -> Result<Json<Page<Token>>, Problem> {
    let items = app.db.read(tokens::list).await?;
    Ok(Json(Page { items, next: None, total: None }))
}

/// Create a token
///
/// Only this answer has the secret, in `text`.
#[utoipa::path(post, path = "/tokens", tag = "tokens", operation_id = "create_token",
    params(("Idempotency-Key" = Option<String>, Header, description = "Name of this request; a repeated request with the same name is carried out once.", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewToken, responses((status = 201, body = CreatedToken)))]
async fn create_token(
    State(app): State<Shared>,
    Admin(caller): Admin,
    key: IdempotencyKey,
    Body(new): Body<NewToken>,
) -> Result<Answer, Problem> {
    Once::new(key.0, &caller, "token", &new)
        .run(&app.db, app.clock.now(), move |tx, now| {
            let (token, text) = credentials::create_token(tx, &caller, new.clone(), now)?;
            Ok(Answer::created(&token).and_secretly("text", text))
        })
        .await
}

/// Revoke a token
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", operation_id = "revoke_token",
    params(("id" = String, Path, description = "Id of the token.")), responses((status = 204)))]
async fn revoke_token(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    credentials::revoke_token(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List fleet keys, without their secrets
#[utoipa::path(get, path = "/fleet-keys", tag = "fleet keys", responses((status = 200, body = Page<FleetKey>)))]
async fn list_fleet_keys(State(app): State<Shared>, _: Admin) -> Result<Json<Page<FleetKey>>, Problem> {
    let items = app.db.read(fleet_keys::list).await?;
    Ok(Json(Page { items, next: None, total: None }))
}

/// Create a fleet key
///
/// New devices connect to the broker with it as their password. Only this answer has the key itself, in `text`.
#[utoipa::path(post, path = "/fleet-keys", tag = "fleet keys", operation_id = "create_fleet_key",
    params(("Idempotency-Key" = Option<String>, Header, description = "Name of this request; a repeated request with the same name is carried out once.", min_length = 1, max_length = 128, pattern = "^[ -~]+$")),
    request_body = NewFleetKey, responses((status = 201, body = CreatedFleetKey)))]
async fn make_fleet_key(
    State(app): State<Shared>,
    Admin(caller): Admin,
    key: IdempotencyKey,
    Body(new): Body<NewFleetKey>,
) -> Result<Answer, Problem> {
    let remarks = LoginChange::ByFleetKey.remarks(&app.config);
    Once::new(key.0, &caller, "fleet-key", &new)
        .run(&app.db, app.clock.now(), move |tx, now| {
            let (key, text) = credentials::create_fleet_key(tx, &caller, new.clone(), now)?;
            Ok(Answer::created(&key).and_remarks(&remarks).and_secretly("text", text))
        })
        .await
}

/// Revoke a fleet key
///
/// Devices that registered with it can no longer connect, unless they have a login of their own.
#[utoipa::path(delete, path = "/fleet-keys/{id}", tag = "fleet keys", operation_id = "revoke_fleet_key",
    params(("id" = String, Path, description = "Id of the fleet key.")),
    responses((status = 204)))]
async fn end_fleet_key(
    State(app): State<Shared>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    credentials::revoke_fleet_key(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
