//! Tokens and fleet keys, made and revoked by somebody: each with its line in the audit log.

use crate::cluster::notices::{self, Notice};
use crate::db::Connection;
use otaru_api::{FleetKey, NewFleetKey, NewToken, Token};
use otaru_rollout::Time;
use serde_json::json;

use super::audit;
use super::fleet_keys;
use super::tokens;
use crate::app::App;
use crate::caller::Caller;
use crate::problem::Problem;

/// Makes a token, and notes who did.
///
/// # Errors
/// When there cannot be such a token.
pub(crate) fn create_token(
    tx: &Connection,
    caller: &Caller,
    new: NewToken,
    now: Time,
) -> Result<(Token, String), Problem> {
    let (token, text) = tokens::create(tx, new, &caller.name, now)?;
    let detail = json!({"name": token.name, "role": token.role});
    audit::note(tx, caller, "token.create", &format!("token/{}", token.id), &detail, now)?;
    Ok((token, text))
}

/// Ends a token and its connections, and notes who did.
///
/// # Errors
/// When there is none that is good.
pub(crate) async fn revoke_token(app: &App, caller: &Caller, id: String) -> Result<(), Problem> {
    let (now, token, caller) = (app.clock.now(), id.clone(), caller.clone());
    app.db
        .write(move |tx| {
            if !tokens::revoke(tx, &id, now)? {
                return Err(Problem::not_found(format_args!("good token {id}")));
            }
            audit::note(tx, &caller, "token.revoke", &format!("token/{id}"), &json!({}), now)?;
            Ok(notices::write(tx, &Notice::Token(id.clone()))?)
        })
        .await?;
    app.tokens.forget(&token);
    app.connections.end_token(&token);
    Ok(())
}

/// Makes a fleet key, and notes who did.
///
/// # Errors
/// When there cannot be such a key.
pub(crate) fn create_fleet_key(
    tx: &Connection,
    caller: &Caller,
    new: NewFleetKey,
    now: Time,
) -> Result<(FleetKey, String), Problem> {
    let (key, text) = fleet_keys::create(tx, new, &caller.name, now)?;
    let detail = json!({"name": key.name});
    audit::note(tx, caller, "fleet-key.create", &format!("fleet-key/{}", key.id), &detail, now)?;
    Ok((key, text))
}

/// Ends a fleet key and the connections of the devices that come with it, and notes who did.
///
/// # Errors
/// When there is none that is good.
pub(crate) async fn revoke_fleet_key(app: &App, caller: &Caller, id: String) -> Result<(), Problem> {
    let (now, caller) = (app.clock.now(), caller.clone());
    let devices = app.db.write(move |tx| {
        if !fleet_keys::revoke(tx, &id, now)? {
            return Err(Problem::not_found(format_args!("good fleet key {id}")));
        }
        audit::note(tx, &caller, "fleet-key.revoke", &format!("fleet-key/{id}"), &json!({}), now)?;
        let devices = fleet_keys::devices(tx, &id)?;
        notices::write(tx, &Notice::Devices(devices.clone()))?;
        Ok(devices)
    });
    app.connections.end_devices(devices.await?);
    Ok(())
}
