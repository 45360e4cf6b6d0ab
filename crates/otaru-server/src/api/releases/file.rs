//! `GET /releases/{id}/file`.

use axum::extract::State;
use axum::response::Redirect;

use crate::address::download_path;
use crate::app::Shared;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::releases::{commands, rows};
use crate::web::extract::Path;

/// Redirect to the file of a release
#[utoipa::path(
    get,
    path = "/releases/{id}/file",
    operation_id = "release_file",
    tag = "releases",
    params(("id" = i64, Path, description = "Number of the release.")),
    responses(
        (status = 307, description = "Redirect to the file"),
    )
)]
pub(super) async fn file(
    State(app): State<Shared>,
    _caller: Caller,
    Path(id): Path<i64>,
) -> Result<Redirect, Problem> {
    let release = commands::find(&app, id).await?;
    let (digest, name) =
        rows::offered_file(&release).ok_or_else(|| Problem::not_found("file of this release"))?;
    Ok(Redirect::temporary(&download_path(digest, &name)))
}
