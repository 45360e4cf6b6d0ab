//! One connection after another, as long as the program wants.

use otaru_format::mqtt::{Next, Outcome, VersionChoice};
use tokio::time::{Instant, sleep};

use super::backoff::BackOff;
use super::connection::{self, Desk, End};
use super::error::BrokerError;
use super::handshake::{self, Accepted, Failure};
use super::pace::Pace;
use super::url::BrokerUrl;
use crate::version::Version;

/// Way to a broker, with the findings about its version.
pub(super) struct Dialer {
    url: BrokerUrl,
    client: String,
    pace: Pace,
    choice: VersionChoice,
    /// Beginning of the time that `choice` counts in.
    began: Instant,
}

impl Dialer {
    pub(super) fn new(url: &BrokerUrl, client: String, pace: Pace) -> Self {
        let choice = VersionChoice::new(url.version);
        Self { url: url.clone(), client, pace, choice, began: Instant::now() }
    }

    /// Connects, in the one version or the other. Tries again only while that may bring another answer at once.
    pub(super) async fn first(&mut self) -> Result<Accepted, BrokerError> {
        loop {
            match self.attempt().await {
                Ok(accepted) => return Ok(accepted),
                Err((_, Next::AtOnce)) => {}
                Err((_, Next::Soon)) => sleep(self.pace.soon).await,
                Err((failure, Next::Later)) => return Err(self.tell(failure)),
            }
        }
    }

    /// Connects again, with pauses, however long it takes.
    async fn again(&mut self, back_off: &mut BackOff) -> Accepted {
        let mut told = String::new();
        let mut next = Next::Later;
        loop {
            if next != Next::AtOnce {
                sleep(back_off.pause()).await;
            }
            next = match self.attempt().await {
                Ok(accepted) => return accepted,
                Err((failure, next)) => {
                    if next == Next::Later {
                        let error = self.tell(failure).to_string();
                        // Once for each reason, not once for each attempt.
                        if error != told {
                            tracing::warn!("{error}; trying again");
                            told = error;
                        }
                    }
                    next
                }
            };
        }
    }

    async fn attempt(&mut self) -> Result<Accepted, (Failure, Next)> {
        let version = self.choice.begin(self.began.elapsed());
        let opened = handshake::open(&self.url, version, &self.client, self.pace).await;
        let outcome = opened.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Accepted);
        let next = self.choice.note(outcome, self.began.elapsed());
        if opened.is_ok() && version == Version::V311 {
            tracing::debug!("{} speaks MQTT {version}", self.url);
        }
        opened.map_err(|failure| (failure, next))
    }

    /// Says what happened. A close under one version is not the whole story where the other was let off.
    fn tell(&self, failure: Failure) -> BrokerError {
        match failure.error {
            BrokerError::ClosedSilently { broker, .. } if !self.choice.is_silent() => {
                BrokerError::NotMqtt(broker, "it closes the connection".into())
            }
            error => error,
        }
    }
}

/// News of the connection.
pub(super) enum News {
    /// It is lost.
    Lost(String),
    /// It is back, in this version.
    Back(Version),
}

/// Keeps a connection until the program wants no more. What is asked for while there is none is refused.
pub(super) async fn keep(mut dialer: Dialer, first: Accepted, mut desk: Desk, on_news: impl Fn(News)) {
    let mut back_off = BackOff::new(dialer.pace.shortest_pause, dialer.pace.longest_pause);
    let mut accepted = first;
    let mut is_back = false;
    loop {
        let (version, began) = (accepted.version, Instant::now());
        let on_ready = || {
            if is_back {
                on_news(News::Back(version));
            }
        };
        match connection::run(accepted, &mut desk, dialer.pace, on_ready).await {
            End::Wanted => return,
            End::Lost(why) => on_news(News::Lost(why)),
        }
        back_off.lasted(began.elapsed());
        is_back = true;
        accepted = tokio::select! {
            _ = desk.stop.changed() => return,
            accepted = dialer.again(&mut back_off) => accepted,
            // Each command is dropped, which refuses it.
            () = async { while desk.commands.recv().await.is_some() {} } => return,
        };
    }
}
