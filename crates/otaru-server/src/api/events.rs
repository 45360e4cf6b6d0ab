//! `/events`: what changes, as it changes (server-sent events, HTML standard section 9.2).

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::Event as Sse;
use futures_util::StreamExt as _;
use otaru_api::{Event, EventQuery};
use serde_json::Value;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::Shared;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::web::extract::Query;
use crate::web::stream::{answer, end, one_more};

/// The kinds there are.
const KINDS: [&str; 5] = ["device", "deployment", "rollout", "release", "job"];

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Stream changes from now on
///
/// Server-sent events, each with its kind as `event` and JSON as `data`. An event `resync` means that some were missed: read
/// again what you show. The stream ends when the server stops, and when the token is revoked or expires.
#[utoipa::path(get, path = "/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Event, content_type = "text/event-stream")))]
async fn events(
    State(app): State<Shared>,
    caller: Caller,
    Query(of): Query<EventQuery>,
) -> Result<impl IntoResponse, Problem> {
    let kinds = kinds(of.kinds.as_deref())?;
    let stream = one_more(&app, &caller)?;
    let told = BroadcastStream::new(app.events.listen()).filter_map(move |event| {
        let sse = match event {
            Ok(event) => say(&event, kinds.as_deref()),
            Err(BroadcastStreamRecvError::Lagged(_)) => Some(Sse::default().event("resync").data("{}")),
        };
        std::future::ready(sse.map(Ok))
    });
    Ok(answer(told.take_until(Box::pin(end(app, caller, stream)))))
}

fn kinds(text: Option<&str>) -> Result<Option<Vec<String>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let kinds: Vec<String> = text.split(',').map(|kind| kind.trim().to_owned()).collect();
    match kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        Some(_) => Err(Problem::invalid(format!("`kinds` are some of: {}", KINDS.join(", ")))),
        None => Ok(Some(kinds)),
    }
}

fn say(event: &Event, kinds: Option<&[String]>) -> Option<Sse> {
    let value = serde_json::to_value(event).ok()?;
    let kind = value.get("kind").and_then(Value::as_str)?.to_owned();
    if kinds.is_some_and(|kinds| !kinds.contains(&kind)) {
        return None;
    }
    Some(Sse::default().event(kind).data(value.to_string()))
}
