//! `/events`: what changes, as it changes (server-sent events, HTML standard section 9.2).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sse, KeepAlive};
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::Value;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::Query;
use super::problem::Problem;
use crate::access::tokens;
use crate::app::Shared;
use crate::counts::Counted;
use crate::events::Event;

/// Often enough for proxies that give up on silent connections after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often it is looked whether who listens still may.
const CHECKED: Duration = Duration::from_secs(5);
/// The kinds there are.
const KINDS: [&str; 5] = ["device", "deployment", "rollout", "release", "job"];

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct EventQuery {
    /// Only these kinds, with commas between: `device`, `deployment`, `rollout`, `release`, `job`
    kinds: Option<String>,
}

/// What changes from now on
///
/// Server-sent events, each with its kind as `event` and JSON as `data`. An event `resync` means that some were missed: read
/// anew what you show. The stream ends with the server, and when the token is revoked or expires.
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

/// An answer that goes on, which nobody on the way should hold back or change: `X-Accel-Buffering` is nginx's word for it, which
/// others know too, and `no-transform` (RFC 9111, section 5.2.2.6) keeps it from being compressed.
pub(crate) fn answer(
    told: impl Stream<Item = Result<Sse, Infallible>> + Send + 'static,
) -> impl IntoResponse {
    let unbuffered = [("x-accel-buffering", "no"), ("cache-control", "no-store, no-transform")];
    let sse = axum::response::Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    (unbuffered, sse).into_response()
}

/// One more stream of the caller's.
///
/// # Errors
/// When there are as many as there may be.
pub(crate) fn one_more(app: &Shared, caller: &Caller) -> Result<Counted<String>, Problem> {
    app.streams.take(caller.token.clone()).ok_or_else(|| {
        let most = app.config.limits.streams;
        let detail = format!("this token follows events {most} times already; end some of those");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).retry_after(60)
    })
}

/// Ends when the server does, or soon after the token is no longer good.
pub(crate) async fn end(app: Shared, caller: Caller, _stream: Counted<String>) {
    let no_longer_good = async {
        loop {
            tokio::time::sleep(CHECKED).await;
            // While the database does not answer, nothing is told that it would have to.
            if matches!(tokens::is_good(&app, &caller.token).await, Ok(false)) {
                return;
            }
        }
    };
    tokio::select! {
        () = app.stop.cancelled() => {}
        () = no_longer_good => {}
    }
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
