//! `/live`: that something of a page changed, not more than once a second, however much happens.
//!
//! The page then fetches itself anew, so that what is drawn is drawn in one place, and a fleet of 10,000 that updates costs a
//! browser one page a second and not a thousand events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::Event as Message;
use axum::routing::get;
use futures_util::stream;
use otaru_api::Event;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::fields::Query;
use super::visitor::Visitor;
use crate::app::Shared;
use crate::problem::Problem;
use crate::web::stream::{answer, end, one_more};

/// The pause after each message.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause in which further events are collected, so that one message tells them all.
const SETTLED: Duration = Duration::from_millis(60);

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/live", get(live))
}

async fn live(
    State(app): State<Shared>,
    visitor: Visitor,
    Query(fields): Query,
) -> Result<impl IntoResponse, Problem> {
    let stream = one_more(&app, &visitor.caller)?;
    let of = Subjects::read(fields.text("of"));
    let events = app.events.listen();
    // What happened since the page was drawn was not heard.
    let late = fields.get("since").and_then(|since| since.parse().ok()) != Some(app.events.told());
    let changes = stream::unfold((events, of, late, false), |(mut events, of, late, told)| async move {
        if told {
            tokio::time::sleep(PAUSE).await;
        }
        if !late {
            wait(&mut events, &of).await?;
        }
        // An event without data is none (HTML standard, section 9.2.6).
        Some((
            Ok::<_, Infallible>(Message::default().event("changed").data("now")),
            (events, of, false, true),
        ))
    });
    let changes = futures_util::StreamExt::take_until(changes, Box::pin(end(app, visitor.caller, stream)));
    Ok(answer(changes))
}

/// Waits until something happens that is asked for. `None` when nothing will happen any more.
async fn wait(events: &mut Receiver<Event>, of: &Subjects) -> Option<()> {
    loop {
        match events.recv().await {
            Ok(event) if of.has(&event) => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => return None,
        }
    }
    tokio::time::sleep(SETTLED).await;
    while !matches!(events.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
    Some(())
}

/// Subjects that are asked for: kinds of events, some of one thing only: `rollout device/kitchen`.
struct Subjects(Vec<(String, Option<String>)>);

impl Subjects {
    fn read(text: &str) -> Self {
        let one = |word: &str| match word.split_once('/') {
            Some((kind, id)) => (kind.to_owned(), Some(id.to_owned())),
            None => (word.to_owned(), None),
        };
        Self(text.split_whitespace().take(16).map(one).collect())
    }

    fn has(&self, event: &Event) -> bool {
        let (kind, id) = match event {
            Event::Device { id, .. } => ("device", id.clone()),
            Event::Deployment { rollout, .. } => ("deployment", rollout.to_string()),
            Event::Rollout { id, .. } => ("rollout", id.to_string()),
            Event::Release { id } => ("release", id.to_string()),
            Event::Job { release, .. } => ("release", release.to_string()),
            _ => return false,
        };
        self.0.iter().any(|(of, only)| of == kind && only.as_ref().is_none_or(|only| *only == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_counts() {
        let of = Subjects::read("release device/kitchen rollout/7");
        let device = |id: &str| Event::Device {
            id: id.into(),
            state: "idle".into(),
            version: "1".into(),
            reachable: true,
            progress: None,
            next_trial: None,
        };
        let rollout = |id| Event::Rollout { id, phase: "running".into() };
        assert!(of.has(&device("kitchen")) && of.has(&rollout(7)) && of.has(&Event::Release { id: 3 }));
        assert!(!of.has(&device("porch")) && !of.has(&rollout(8)));
        assert!(!Subjects::read("").has(&device("kitchen")));
    }
}
