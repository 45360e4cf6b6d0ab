//! `/releases`: upload, list, yank, build.

mod build;
mod change;
mod file;
mod get;
mod list;
mod unyank;
mod upload;
mod yank;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list::list, upload::upload))
        .routes(routes!(get::get, change::change))
        .routes(routes!(yank::yank))
        .routes(routes!(unyank::unyank))
        .routes(routes!(build::build))
        .routes(routes!(file::file))
}
