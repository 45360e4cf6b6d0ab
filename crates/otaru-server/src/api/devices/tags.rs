//! `POST /devices/tags`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use otaru_api::{ChangeDevice, ChangedDevices};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::app::Shared;
use crate::devices::query::DeviceQuery;
use crate::devices::{commands, tags};
use crate::problem::Problem;
use crate::web::extract::Body;
use crate::web::login::Operator;

/// Tags for many devices.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TagMany {
    /// Ids of the devices; either these or `which`
    #[serde(default)]
    devices: Vec<String>,
    /// Filter for the devices; either this or `devices`
    #[serde(default, deserialize_with = "strictly")]
    which: Option<DeviceQuery>,
    /// Tags to set
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Names of tags to remove
    #[serde(default)]
    remove: Vec<String>,
}

/// A filter in a body. Here a name that is none is an error, and so is an empty text: a filter that leaves it out would mean more devices
/// than whoever misspelt it, or whose script had nothing to put there.
fn strictly<'de, D: Deserializer<'de>>(body: D) -> Result<Option<DeviceQuery>, D::Error> {
    let Some(given) = Option::<Map<String, Value>>::deserialize(body)? else { return Ok(None) };
    let known = serde_json::to_value(DeviceQuery::default()).map_err(D::Error::custom)?;
    if let Some(name) = given.keys().find(|name| known.get(name.as_str()).is_none()) {
        return Err(D::Error::custom(format!("unknown field `{name}` in `which`")));
    }
    let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    if let Some((name, _)) = given.iter().find(|(_, value)| is_blank(value)) {
        let words = format!("`{name}` in `which` is empty; leave it out where it does not matter");
        return Err(D::Error::custom(words));
    }
    serde_json::from_value(Value::Object(given)).map(Some).map_err(D::Error::custom)
}

/// Tag many devices at once
#[utoipa::path(post, path = "/devices/tags", tag = "devices", request_body = TagMany,
    responses((status = 200, body = ChangedDevices)))]
pub(super) async fn tag_many(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Body(body): Body<TagMany>,
) -> Result<Json<ChangedDevices>, Problem> {
    tags::check(&body.set)?;
    tags::check_removed(&body.remove)?;
    let ids = match body.which {
        Some(which) if body.devices.is_empty() => commands::matching(&app, which).await?,
        None if !body.devices.is_empty() => body.devices,
        _ => return Err(Problem::invalid("give either `devices` or `which`")),
    };
    let change = ChangeDevice { label: None, tags: body.set, remove_tags: body.remove };
    Ok(Json(ChangedDevices { devices: commands::change_many(&app, caller, ids, change).await? }))
}
