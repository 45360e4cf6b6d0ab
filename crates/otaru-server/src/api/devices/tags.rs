//! `POST /devices/tags`.

use axum::Json;
use axum::extract::State;
use otaru_api::{ChangeDevice, ChangedDevices, TagMany};

use crate::app::Shared;
use crate::devices::{commands, tags};
use crate::problem::Problem;
use crate::web::extract::Body;
use crate::web::login::Operator;

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
