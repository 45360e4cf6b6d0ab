//! `POST /releases`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use otaru_api::{UploadQuery, Uploaded};

use crate::app::Shared;
use crate::problem::Problem;
use crate::releases::commands;
use crate::releases::naming::Naming;
use crate::web::extract::Query;
use crate::web::login::Operator;
use crate::web::upload::{Announced, receive_upload};

/// The uploaded file: an ESP image (`.bin`), or a release file (`.otaru`).
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it describes a body that is taken as it comes")]
pub(super) struct Firmware(Vec<u8>);

/// Upload firmware
///
/// Chip, product and version are read from the file; for an image, the parameters override product and version. Uploading the same image
/// again changes its release; an `.otaru` file and a `.bin` file of one image complete each other.
#[utoipa::path(
    post,
    path = "/releases",
    operation_id = "upload_release",
    tag = "releases",
    params(
        UploadQuery,
        ("Repr-Digest" = Option<String>, Header, description = "`sha-256=:BASE64:` (RFC 9530); `Content-Digest` is taken, too."),
    ),
    request_body(content = Firmware, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "New release", body = Uploaded),
        (status = 200, description = "Release that has the image already", body = Uploaded),
    )
)]
pub(super) async fn upload(
    State(app): State<Shared>,
    Operator(caller): Operator,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-coding",
            "send the file as it is",
        ));
    }
    let announced = Announced::read(&headers, query.sha256.as_deref())?;
    let len = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let naming = Naming::new(query.product, query.version, query.filename)?;
    commands::check_notes(query.notes.as_deref())?;
    let staged = receive_upload(&app, &announced, len, body).await?;
    let (release, registered) = commands::take_upload(&app, caller, staged, naming, query.notes).await?;
    let status = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    let place = [(header::LOCATION, format!("/api/v1/releases/{}", release.id))];
    let remarks = registered.remarks;
    Ok((status, place, Json(Uploaded { release, remarks })).into_response())
}
