//! Keeper of a certificate: gets one, renews it, and waits between attempts. Whatever goes wrong, the server runs, and the certificate that it
//! has is served.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use otaru_rollout::Time;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::advice::{self, AFTER_FAILURE, Advice};
use super::challenges::Challenges;
use super::client::DirectoryClient;
use super::config::AcmeConfig;
use super::failure::Failure;
use super::schedule::Issued;
use super::store::Store;
use super::{order, schedule};
use crate::clock::Clock;
use crate::text;
use crate::tls::error::TlsError;
use crate::tls::facts::Facts;
use crate::tls::live::LiveCertificate;
use crate::tls::pair::PairFiles;

/// Bytes of the longest URL of terms that is told.
const LONGEST_TERMS: usize = 400;
/// Interval of looking whether it is time: a comparison, by the time of day, which may be set.
const LOOK: Duration = Duration::from_secs(2);
/// Longest time of an attempt.
const ATTEMPT: Duration = Duration::from_secs(6 * 60);
/// Milliseconds that a certificate may begin in the future: clocks differ.
const EARLY: u64 = 3_600 * 1_000;
/// Time until it is looked again whether there is room for an order.
const NO_ROOM: Duration = Duration::from_secs(60);

/// Keeper of a certificate from a directory.
#[derive(Debug)]
pub struct Acme {
    config: AcmeConfig,
    store: Store,
    challenges: Arc<Challenges>,
    clock: Clock,
    advice: Advice,
    /// Failures since the last success, or the start.
    failures: usize,
    /// Earliest moment of the next attempt.
    next: Instant,
}

impl Acme {
    /// Opens what is kept of the directory in the folder of TLS.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(config: AcmeConfig, tls: &Path, clock: Clock) -> Result<Self, TlsError> {
        let store = Store::open(tls, &config.directory)?;
        let (challenges, advice) = Default::default();
        Ok(Self { config, store, challenges, clock, advice, failures: 0, next: Instant::now() })
    }

    /// Returns the files of certificate and key, which may not be there yet.
    pub fn files(&self) -> PairFiles {
        self.store.files()
    }

    /// Returns the challenges that the HTTPS listener is to answer.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// Keeps the certificate good, for ever. `look_now` is rung when there is a new one.
    pub async fn run(mut self, live: &LiveCertificate, look_now: &Notify) {
        loop {
            if Instant::now() >= self.next {
                let facts = live.facts();
                match &facts {
                    Some(facts) if !self.is_due(facts) => self.ask_when().await,
                    _ if !self.has_room() => self.wait_for_room(),
                    _ => self.attempt(facts.as_ref(), look_now).await,
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the directory may be asked for a certificate now.
    fn has_room(&self) -> bool {
        schedule::has_room(&self.store.orders(), &self.store.issued(), self.clock.now())
    }

    /// Whether another certificate is wanted than this one.
    fn is_due(&self, facts: &Facts) -> bool {
        let renewal = schedule::renewal(facts, self.advice.moment());
        !self.is_for_all(facts) || self.clock.now() >= renewal
    }

    fn is_for_all(&self, facts: &Facts) -> bool {
        self.config.domains.iter().all(|domain| facts.is_for(domain.as_str()))
    }

    /// Asks the directory when it wants the certificate renewed, now and then.
    async fn ask_when(&mut self) {
        if !self.advice.is_due() {
            return;
        }
        let known = advice::identifier(&self.store.files()).zip(self.store.account());
        let client = DirectoryClient::new(&self.config.directory, &self.config.trust);
        self.advice.wait(AFTER_FAILURE);
        if let (Some((certificate, _)), Ok(client)) = (known, client) {
            let asking = async {
                match order::account(&self.store, &self.config, &client).await {
                    Ok(account) => self.advice.ask(&account, &certificate).await,
                    Err(error) => tracing::debug!(%error, "the directory is not asked when to renew"),
                }
            };
            // A library that panics over an answer costs the advice, and nothing else.
            let _ = AssertUnwindSafe(timeout(ATTEMPT, asking)).catch_unwind().await;
        }
    }

    fn wait_for_room(&mut self) {
        self.next = Instant::now() + NO_ROOM;
        tracing::warn!(
            "{} certificates were ordered within an hour, or {} issued within a week, over restarts: the next is ordered once that \
             is over",
            schedule::MOST_ORDERS,
            schedule::MOST_ISSUED
        );
    }

    /// Tries to get a certificate once, and tells what came of it.
    async fn attempt(&mut self, before: Option<&Facts>, look_now: &Notify) {
        let directory = &self.config.directory;
        let domains: Vec<&str> = self.config.domains.iter().map(|domain| domain.as_str()).collect();
        let domains = domains.join(" ");
        tracing::info!(
            domains,
            directory,
            "a TLS certificate is ordered; to prove the names, their port 443 has to lead to HTTPS here"
        );
        let (outcome, asked) = match DirectoryClient::new(directory, &self.config.trust) {
            Ok(client) => {
                let attempt = AssertUnwindSafe(timeout(ATTEMPT, self.get(&client))).catch_unwind();
                let outcome = attempt.await.unwrap_or(Ok(Err(Failure::Broken)));
                let outcome = outcome.unwrap_or(Err(Failure::Late));
                (outcome, client.remarks().pause.unwrap_or_default())
            }
            Err(error) => (Err(error.into()), Duration::ZERO),
        };
        self.challenges.close();
        match outcome {
            Ok(facts) => {
                self.failures = 0;
                self.advice = Advice::new();
                self.next = Instant::now() + schedule::rest(&facts);
                look_now.notify_one();
            }
            Err(failure) => {
                self.failures += 1;
                if failure.is_unknown_account() {
                    self.store.forget_account();
                }
                let pause = schedule::pause(self.failures, rand::random()).max(asked);
                self.next = Instant::now() + pause;
                tell(&failure, before, self.clock.now(), pause);
            }
        }
    }

    /// Gets a certificate, and puts it in the place of the one before.
    async fn get(&self, client: &DirectoryClient) -> Result<Facts, Failure> {
        let is_new = self.store.account().is_none();
        let account = order::account(&self.store, &self.config, client).await?;
        if is_new {
            let mut terms = client.remarks().terms.unwrap_or_else(|| "none that it names".to_owned());
            text::cut(&mut terms, LONGEST_TERMS);
            tracing::info!(terms, "an account was made at the directory; by --acme its terms are agreed to");
        }
        self.store.note_order(self.clock.now())?;
        // What a directory knows as replaced may be free of its limits. If it does not like that, the next attempt does without.
        let replaces = advice::identifier(&self.store.files());
        let replaces = replaces.filter(|_| self.failures == 0 && self.advice.moment().is_some());
        let issued = order::order(&account, &self.config.domains, replaces, &self.challenges).await?;
        let received = self.store.receive(&issued.chain, &issued.key)?;
        let read = received.read();
        let now = self.clock.now();
        self.store.note_issued(Issued::new(now, read.as_ref().ok().map(|pair| &pair.facts)), now)?;
        let facts = read?.facts;
        self.check(&facts)?;
        self.store.take(&received)?;
        Ok(facts)
    }

    /// Fails unless a certificate that came is one that was asked for.
    fn check(&self, facts: &Facts) -> Result<(), Failure> {
        if !self.is_for_all(facts) {
            return Err(Failure::Unfit("it is not for all the domains".to_owned()));
        }
        let now = self.clock.now();
        let clock = "is this machine's clock right?";
        if facts.has_ended(now) {
            return Err(Failure::Unfit(format!("it has ended already; {clock}")));
        }
        match facts.begins.0 > now.0.saturating_add(EARLY) {
            true => Err(Failure::Unfit(format!("it is not valid yet; {clock}"))),
            false => Ok(()),
        }
    }
}

/// Tells why there is no new certificate, and what that means.
fn tell(failure: &Failure, before: Option<&Facts>, now: Time, pause: Duration) {
    let again_in_minutes = pause.as_secs().div_ceil(60);
    match before {
        None => tracing::error!(
            again_in_minutes,
            "there is no TLS certificate yet, and handshakes are refused: {failure}"
        ),
        Some(facts) if facts.has_ended(now) => {
            tracing::error!(again_in_minutes, "the TLS certificate has ended and is not renewed: {failure}");
        }
        Some(facts) => tracing::warn!(
            again_in_minutes,
            ends = facts.ends_in_words(),
            "the TLS certificate is served on, and not renewed: {failure}"
        ),
    }
}
