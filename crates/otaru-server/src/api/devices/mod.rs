//! `/devices` and `/fleet`: the registry.

mod add;
mod allow_claim;
mod change;
mod fleet;
mod get;
mod history;
mod list;
pub(super) mod password;
mod retire;
mod tags;
mod unretire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(fleet::fleet))
        .routes(routes!(list::list_devices, add::add))
        .routes(routes!(tags::tag_many))
        .routes(routes!(get::get, change::change))
        .routes(routes!(retire::retire))
        .routes(routes!(unretire::unretire))
        .routes(routes!(password::new_password))
        .routes(routes!(allow_claim::allow_claim))
        .routes(routes!(history::happened))
}
