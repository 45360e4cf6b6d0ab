//! Streams of server-sent events: each counts for its caller, and ends with the token.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sse, KeepAlive};
use futures_util::Stream;

use crate::app::Shared;
use crate::caller::Caller;
use crate::problem::Problem;
use crate::quotas::QuotaPermit;

/// Often enough for proxies that give up on silent connections after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Interval of checking whether the listener still may listen; mostly from memory.
const CHECKED: Duration = Duration::from_millis(500);

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
pub(crate) fn one_more(app: &Shared, caller: &Caller) -> Result<QuotaPermit<String>, Problem> {
    app.streams.take(caller.token.clone()).ok_or_else(|| {
        let most = app.config.http_limits.streams;
        let detail = format!("this token follows events {most} times already; end some of those");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).retry_after(60)
    })
}

/// Ends when the server does, or within a second after the token is no longer good.
pub(crate) async fn end(app: Shared, caller: Caller, _stream: QuotaPermit<String>) {
    let no_longer_good = async {
        loop {
            tokio::time::sleep(CHECKED).await;
            // While the database does not answer, nothing is told that it would have to.
            if matches!(app.tokens.is_good(&caller.token).await, Ok(false)) {
                return;
            }
        }
    };
    tokio::select! {
        () = app.stop.cancelled() => {}
        () = no_longer_good => {}
    }
}
