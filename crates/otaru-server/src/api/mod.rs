//! The HTTP API under `/api/v1`: for people's tools, scripts and, by its documents, anybody.

pub mod audit;
pub mod devices;
pub mod events;
pub mod for_devices;
mod parameters;
pub mod releases;
pub mod rollouts;
pub mod servers;
pub mod tokens;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::parameters::{Parameters, by_method, known_only};
use crate::app::Shared;
use crate::problem::Problem;

/// Bytes of the longest body, where a route does not say otherwise.
const LONGEST_BODY: usize = 256 * 1024;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Otaru",
        description = "Firmware updates for ESP32: devices, releases, rollouts. Errors are problem details (RFC 9457). \
                       Moments are RFC 3339: in answers in UTC and with milliseconds, in requests with any offset.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(otaru_api::Problem, crate::devices::list::Sort)),
    security(("token" = [])),
    modifiers(&Logins),
)]
struct Document;

struct Logins;

impl Modify for Logins {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = |scheme| SecurityScheme::Http(Http::new(scheme));
        components.add_security_scheme("token", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("device", scheme(HttpAuthScheme::Basic));
    }
}

fn routes() -> OpenApiRouter<Shared> {
    let v1 = OpenApiRouter::new()
        .merge(audit::router())
        .merge(devices::router())
        .merge(events::router())
        .merge(for_devices::router())
        .merge(releases::router())
        .merge(rollouts::router())
        .merge(servers::router())
        .merge(tokens::router());
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", v1)
}

/// The API's description: OpenAPI 3.1.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    with_errors(&mut document);
    document
}

/// Returns every operation of the description, such as `GET /devices/{id}`.
pub fn operations() -> Vec<String> {
    let mut all = Vec::new();
    for (path, item) in document().paths.paths {
        let path = path.strip_prefix("/api/v1").unwrap_or(&path);
        let operations = by_method(&item).into_iter().filter(|(_, operation)| operation.is_some());
        all.extend(operations.map(|(method, _)| format!("{method} {path}")));
    }
    all
}

/// Adds what all operations share: any may be answered with a problem, and each answer is described.
fn with_errors(document: &mut utoipa::openapi::OpenApi) {
    use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
    let problem = || {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description("Problem: what is wrong, and what to do");
        RefOr::T(response.content("application/problem+json", content).build())
    };
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete, &mut item.put];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.entry("default".to_owned()).or_insert_with(problem);
            for (status, response) in responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = meaning(status).to_owned();
                }
            }
        }
    }
}

/// Describes an answer of which its handler says no more than the status: OpenAPI wants a description of each.
fn meaning(status: &str) -> &'static str {
    match status {
        "201" => "Created",
        "202" => "Accepted",
        "204" => "Done; there is no content",
        _ => "Success",
    }
}

/// The routes, their description, and a page to read it.
pub fn router(app: Shared) -> Router {
    let (router, mut document) = routes().split_for_parts();
    with_errors(&mut document);
    let path = crate::address::path(&app.public_base);
    if !path.is_empty() {
        document.servers = Some(vec![utoipa::openapi::Server::new(path)]);
    }
    let parameters = Parameters::of(&document);
    let api = router
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(parameters, known_only))
        .layer(from_fn(private))
        .method_not_allowed_fallback(wrong_method)
        .with_state(app);
    let documents: Router = SwaggerUi::new("/api/docs").url("/api/v1/openapi.json", document).into();
    api.merge(documents.layer(from_fn(kept_a_while)))
}

/// Documents are the same for everybody, and change with this program only: proxies and browsers may keep them, each for a while.
async fn kept_a_while(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.status().is_success() {
        let a_while = HeaderValue::from_static("public, max-age=600");
        response.headers_mut().insert(header::CACHE_CONTROL, a_while);
    }
    response
}

/// Answers are for the caller, and are data.
async fn private(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn wrong_method() -> Response {
    let detail = "this cannot be done here; /api/docs lists what can";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response()
}

/// Answers a request for what is nowhere.
pub async fn not_found() -> Response {
    Problem::not_found("such page; /api/docs lists the API").into_response()
}
