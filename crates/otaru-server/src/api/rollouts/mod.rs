//! `/rollouts` and their deployments.

mod abort;
mod advance;
mod create;
mod deployments;
mod events;
mod finish;
mod get;
mod list;
mod pause;
mod preview;
mod resume;
mod retry;
mod start;
mod widen;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(preview::preview))
        .routes(routes!(get::get))
        .routes(routes!(start::start))
        .routes(routes!(pause::pause))
        .routes(routes!(resume::resume))
        .routes(routes!(advance::advance))
        .routes(routes!(finish::finish))
        .routes(routes!(abort::abort))
        .routes(routes!(widen::widen))
        .routes(routes!(deployments::list_deployments))
        .routes(routes!(retry::retry))
        .routes(routes!(events::happened))
}
