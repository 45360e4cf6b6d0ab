//! Follows a rollout until it is over.

use std::time::Duration;

use anyhow::bail;
use otaru_api::{Answer, Event, Rollout};
use otaru_rollout::{Phase, Standing};

use super::counts::Counts;
use super::screen::{failures, headline, screen, stop_line, tell};
use super::wait::Wait;
use crate::client::error::{Away, Refused};
use crate::client::http::Client;
use crate::client::stream::StreamItem;
use crate::output::{Outcome, Output};
use crate::ui::live::Live;
use crate::{signals, ui};

/// Patience with a watched rollout.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    /// While watching, end with exit code 1 when the rollout waits for a person: it is held, paused or a draft
    #[arg(long)]
    pub(crate) fail_on_hold: bool,
}

/// Longest time between two looks at a rollout. A proxy may hold events back, and nobody can tell that from quiet.
const LOOK: Duration = Duration::from_secs(3);

/// Watches a rollout until it is over, or stopped. Who watches no longer is told that it goes on.
///
/// # Errors
/// When it waits for a person and that is not waited for, or the server refuses or is away.
pub(crate) async fn follow(
    client: &Client,
    id: u64,
    patience: Patience,
    output: Output,
) -> anyhow::Result<Outcome> {
    match watch(client, id, patience, output).await {
        Ok(Some(outcome)) => Ok(outcome),
        Ok(None) => {
            if !output.json {
                ui::warn(&goes_on(id));
            }
            Ok(Outcome::Good)
        }
        Err(error) if is_about_watching(&error) => bail!("{error:#}\n{}", goes_on(id)),
        Err(error) => Err(error),
    }
}

/// Says what becomes of a rollout that is not watched any longer.
fn goes_on(id: u64) -> String {
    format!(
        "the rollout goes on at the server, watched or not, also after that was away; `otaru rollout watch {id}` shows it again"
    )
}

/// Whether an error says nothing of the rollout: the server is away, or refuses whoever asks.
fn is_about_watching(error: &anyhow::Error) -> bool {
    let is_refused = |refused: &Refused| matches!(refused.status, 401 | 403);
    error.is::<Away>() || error.downcast_ref::<Refused>().is_some_and(is_refused)
}

/// Watches a rollout until it is over; none where somebody ends the watching.
///
/// Events only tell when to look; what is there is always read from the rollout itself.
async fn watch(
    client: &Client,
    id: u64,
    patience: Patience,
    output: Output,
) -> anyhow::Result<Option<Outcome>> {
    let path = format!("/rollouts/{id}");
    let mut told = client.events("rollout,deployment");
    let mut live = Live::new(output);
    let (stop, mut last) = (signals::stop(), (String::new(), None));
    tokio::pin!(stop);
    let mut rollout: Answer<Rollout> = tokio::select! {
        // First, so that Ctrl-C is heard from here on.
        biased;
        () = &mut stop => return Ok(None),
        rollout = client.get(&path) => rollout?,
    };
    loop {
        let wait = Wait::of(&rollout.value);
        let now = (headline(&rollout.value), wait.as_ref().map(|wait| wait.text.clone()));
        if let Some(live) = &mut live {
            live.draw(&screen(&rollout.value));
        } else if now != last {
            if output.json || now.0 != last.0 {
                tell(&rollout, output);
            }
            if let Some(text) = now.1.as_ref().filter(|text| !output.json && Some(*text) != last.1.as_ref()) {
                ui::line(&format!("  {text}"));
            }
        }
        last = now;
        if patience.fail_on_hold
            && let Some(wait) = wait.filter(|wait| wait.by_hand)
        {
            drop(live);
            bail!("it waits for a person: {}", wait.text);
        }
        if let Some(outcome) = over(&rollout.value) {
            let drawn = live.take().is_some();
            if !output.json {
                if let Some(text) = stop_line(&rollout.value).filter(|_| !drawn) {
                    ui::line(&format!("    {text}"));
                }
                failures(client, &rollout.value).await?.iter().for_each(|line| ui::line(line));
            }
            return Ok(Some(outcome));
        }
        tokio::select! {
            () = &mut stop => return Ok(None),
            _ = tokio::time::timeout(LOOK, changed(&mut told, id)) => {}
        }
        // Many things happen at once; a look every so often shows them all.
        tokio::time::sleep(Duration::from_millis(150)).await;
        rollout = tokio::select! {
            () = &mut stop => return Ok(None),
            rollout = client.get_again(&path) => rollout?,
        };
    }
}

/// Waits until something of this rollout has changed, or may have: events that are lost are as good as news.
async fn changed(told: &mut tokio::sync::mpsc::Receiver<StreamItem>, id: u64) {
    loop {
        match told.recv().await {
            Some(StreamItem::Event(event)) if !is_of(&event.value, id) => {}
            Some(_) => break,
            None => std::future::pending().await,
        }
    }
    // What else is there already is told by the same look.
    while told.try_recv().is_ok() {}
}

/// Tells whether an event is about this rollout.
fn is_of(event: &Event, id: u64) -> bool {
    matches!(event, Event::Rollout { id: of, .. } | Event::Deployment { rollout: of, .. } if *of == id)
}

/// Tells how it ended, if it has, or waits for a person.
fn over(rollout: &Rollout) -> Option<Outcome> {
    let counts = Counts::all(rollout);
    let outcome = if counts.bad() == 0 { Outcome::Good } else { Outcome::Bad };
    match rollout.phase.known() {
        Some(Phase::Completed) => Some(outcome),
        Some(Phase::Aborted { .. } | Phase::Stopped) if counts.count(Standing::Active) == 0 => {
            Some(Outcome::Bad)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollouts::wait::tests::rollout;
    use serde_json::json;

    #[test]
    fn a_rollout_that_stopped_has_ended_badly() {
        let tally = json!({"succeeded": 2, "failed": 1, "active": 0, "ready": 1, "waiting": 4});
        let mut stopped = rollout("stopped", json!("working"), tally);
        assert_eq!(over(&stopped), Some(Outcome::Bad));
        stopped.phase = Phase::Running.into();
        assert_eq!(over(&stopped), None);
    }

    #[test]
    fn events_of_others_are_no_news() {
        let event = |json| serde_json::from_value::<Event>(json).unwrap();
        assert!(is_of(&event(json!({"kind": "rollout", "id": 3, "phase": "running"})), 3));
        assert!(is_of(
            &event(json!({"kind": "deployment", "rollout": 3, "device": "3", "standing": "active"})),
            3
        ));
        assert!(!is_of(
            &event(json!({"kind": "deployment", "rollout": 4, "device": "3", "standing": "active"})),
            3
        ));
        assert!(!is_of(&event(json!({"kind": "moon", "id": 3})), 3));
    }
}
