//! `GET /devices`.

use axum::Json;
use axum::extract::State;
use otaru_api::{Device, DeviceQuery, Page};
use serde::Deserialize;

use crate::app::Shared;
use crate::caller::Caller;
use crate::devices::list::{self, Order, Sort};
use crate::devices::query::filter;
use crate::page::PageQuery;
use crate::problem::Problem;
use crate::web::extract::Query;

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Sorted {
    /// Field to sort by; equal ones by id.
    sort: Sort,
    /// Whether to sort in descending order.
    descending: bool,
}

/// List devices
#[utoipa::path(get, path = "/devices", tag = "devices", params(DeviceQuery, Sorted, PageQuery),
    responses((status = 200, body = Page<Device>)))]
pub(super) async fn list_devices(
    State(app): State<Shared>,
    _caller: Caller,
    Query(which): Query<DeviceQuery>,
    Query(Sorted { sort, descending }): Query<Sorted>,
    Query(wanted): Query<PageQuery>,
) -> Result<Json<Page<Device>>, Problem> {
    let filter = filter(which)?;
    let order = Order { sort, descending, limit: wanted.limit()?, ..Order::default() };
    let order = order.beginning_after(wanted.after()?)?;
    let counts = app.counted.of_large();
    Ok(Json(app.db.read(move |tx| list::list(tx, &filter, &order, counts.as_ref())).await?))
}
