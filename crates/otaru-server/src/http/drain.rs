//! Bodies of requests that were answered before they were read.
//!
//! A connection that is closed while bytes still come in is reset, and with it goes the answer: whoever sent the bytes learns that
//! the pipe broke, and not that the token was wrong. So what is left of a body is read and thrown away for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Most bytes that are thrown away; four times the largest upload.
const MOST: usize = 64 << 20;
/// Longest time that this may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest time in which nothing may come.
const STALL: Duration = Duration::from_secs(5);

/// The same request; what nobody reads of its body is thrown away.
pub(crate) fn request(request: hyper::Request<Incoming>) -> hyper::Request<Body> {
    let expects = request.headers().contains_key(header::EXPECT);
    request.map(|body| Body::new(Drained { body: Some(body), waits: expects }))
}

/// A body whose rest is read when it is dropped.
struct Drained {
    /// Nothing after its end, or after a failure.
    body: Option<Incoming>,
    /// Whether the sender waits for a word before it sends anything (`Expect: 100-continue`).
    waits: bool,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Asking for the first bytes is that word.
        self.waits = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !self.waits && !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(timeout(LONGEST, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = MOST;
    while let Ok(Some(Ok(frame))) = timeout(STALL, body.frame()).await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(len) {
            Some(less) => left = less,
            None => return,
        }
    }
}
