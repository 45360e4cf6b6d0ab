//! `GET /devices/{id}/history`.

use axum::Json;
use axum::extract::State;
use otaru_api::{DeviceEvent, Page};

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::commands::device_id;
use crate::devices::history;
use crate::devices::rows;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::web::extract::{Path, Query};

/// List the events of a device, newest first
#[utoipa::path(get, path = "/devices/{id}/history", tag = "devices", operation_id = "device_history",
    params(("id" = String, Path, description = "Id of the device."), PageQuery), responses((status = 200, body = Page<DeviceEvent>)))]
pub(super) async fn happened(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<DeviceEvent>>, Problem> {
    let (id, limit, before) = (device_id(&app, &id)?, wanted.limit()?, wanted.after()?);
    let page = app.db.read(move |tx| {
        rows::get(tx, &id)?.ok_or_else(|| Problem::not_found(format_args!("device {id}")))?;
        Ok::<_, Problem>(history::list(tx, &id, before, limit)?)
    });
    Ok(Json(page.await?))
}
