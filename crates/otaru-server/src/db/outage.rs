//! Outages of the database: what of them goes into the log, and how few ask while one lasts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::DbError;

/// Interval at which an outage that goes on is told again.
const TOLD: Duration = Duration::from_secs(60);
/// Longest wait for whoever asks just now whether the database answers again.
const MOMENT: Duration = Duration::from_secs(1);

/// Whether the database answers, as whoever asked it last found. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    state: Arc<Mutex<State>>,
    /// While it does not answer, one asks at a time.
    turn: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Answers,
    Away { since: Instant, told: Instant },
}

/// News for the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begins,
    GoesOn(Duration),
    Ends(Duration),
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State::Answers)), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Notes how it went to ask the database; the log is told of the beginning, of the end, and once a minute between them.
    pub(super) fn note(&self, failure: Option<&DbError>) {
        let news = match failure {
            None => self.lock().answered(Instant::now()),
            Some(error) if error.is_outage() => self.lock().failed(Instant::now()),
            // It answered.
            Some(_) => None,
        };
        let why = failure.map(ToString::to_string).unwrap_or_default();
        match news {
            Some(News::Begins) => tracing::error!(
                %why,
                "the database is away: requests that need it get 503, and what devices report waits"
            ),
            Some(News::GoesOn(lasts)) => {
                tracing::error!(%why, seconds = lasts.as_secs(), "the database is still away");
            }
            Some(News::Ends(lasted)) => {
                tracing::info!(seconds = lasted.as_secs(), "the database answers again")
            }
            None => {}
        }
    }

    /// Waits for one's turn to ask. While the database is away one asks at a time, and whoever waits for longer than a moment is told so.
    ///
    /// # Errors
    /// When it is away.
    pub(super) async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, DbError> {
        if matches!(*self.lock(), State::Answers) {
            return Ok(None);
        }
        match tokio::time::timeout(MOMENT, Arc::clone(&self.turn).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            _ => Err(DbError::Unavailable("it did not answer others just now".to_owned())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answered(&mut self, now: Instant) -> Option<News> {
        match std::mem::replace(self, Self::Answers) {
            Self::Answers => None,
            Self::Away { since, .. } => Some(News::Ends(now - since)),
        }
    }

    fn failed(&mut self, now: Instant) -> Option<News> {
        match self {
            Self::Answers => {
                *self = Self::Away { since: now, told: now };
                Some(News::Begins)
            }
            Self::Away { since, told } if now.duration_since(*told) >= TOLD => {
                *told = now;
                Some(News::GoesOn(now - *since))
            }
            Self::Away { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_when_it_begins_once_a_minute_and_when_it_ends() {
        let (mut state, begin) = (State::Answers, Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(state.answered(at(0)), None);
        let told: Vec<_> = (0..150).filter_map(|second| state.failed(at(second))).collect();
        let seconds = Duration::from_secs;
        assert_eq!(told, [News::Begins, News::GoesOn(seconds(60)), News::GoesOn(seconds(120))]);
        assert_eq!(state.answered(at(150)), Some(News::Ends(seconds(150))));
        assert_eq!(state.answered(at(151)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_is_away_one_asks_at_a_time() {
        let outage = Outage::new();
        assert!(outage.turn().await.unwrap().is_none());
        outage.note(Some(&DbError::Busy("a lock".into())));
        assert!(outage.turn().await.unwrap().is_none(), "one that is busy answers");
        outage.note(Some(&DbError::Unavailable("refused".into())));
        let turn = outage.turn().await.unwrap().unwrap();
        assert!(matches!(outage.turn().await, Err(DbError::Unavailable(_))));
        drop(turn);
        assert!(outage.turn().await.unwrap().is_some());
        outage.note(None);
        assert!(outage.turn().await.unwrap().is_none());
    }
}
