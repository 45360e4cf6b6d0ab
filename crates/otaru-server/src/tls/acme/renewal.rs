//! Renewal of a certificate: gets one, renews it, and waits between attempts. Whatever goes wrong, the server runs, and the certificate that it
//! has is served.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use instant_acme::Account;
use otaru_rollout::Time;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::advice::{self, AFTER_FAILURE, Advice};
use super::chain::ReceivedChain;
use super::challenges::Challenges;
use super::client::{DirectoryClient, Remarks};
use super::config::AcmeConfig;
use super::failure::Failure;
use super::pending::PendingOrder;
use super::schedule::Issued;
use super::store::Store;
use super::{account, order, schedule};
use crate::clock::Clock;
use crate::text;
use crate::tls::error::TlsError;
use crate::tls::facts::Facts;
use crate::tls::live::LiveCertificate;
use crate::tls::pair::PairFiles;

/// Interval of looking whether it is time: a comparison, by the time of day, which may be set.
const LOOK: Duration = Duration::from_secs(2);
/// Longest time of an attempt.
const ATTEMPT: Duration = Duration::from_secs(6 * 60);
/// Milliseconds that a first certificate may begin in the future: clocks differ.
const EARLY: u64 = 3_600 * 1_000;
/// Bytes of the longest URL of an order that is told.
const LONGEST_URL: usize = 400;
/// Time until it is looked again whether there is room for an order.
const NO_ROOM: Duration = Duration::from_secs(60);

/// Renewal of a certificate from a directory.
#[derive(Debug)]
pub struct AcmeRenewal {
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

impl AcmeRenewal {
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
                    _ if self.pending().is_none() && !self.has_room() => self.wait_for_room(),
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

    /// Returns the order that is under way, if it is for these domains.
    fn pending(&self) -> Option<PendingOrder> {
        self.store.pending().filter(|order| order.domains == self.config.domains)
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
                match account::open(&self.store, &self.config, &client).await {
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
        let (outcome, remarks) = match DirectoryClient::new(&self.config.directory, &self.config.trust) {
            Ok(client) => {
                let attempt = AssertUnwindSafe(timeout(ATTEMPT, self.get(&client, before))).catch_unwind();
                let outcome = attempt.await.unwrap_or(Ok(Err(Failure::Broken)));
                (outcome.unwrap_or(Err(Failure::Late)), client.remarks())
            }
            Err(error) => (Err(error.into()), Remarks::default()),
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
                let asked = remarks.pause.unwrap_or_default();
                let pause = schedule::pause(self.failures, rand::random()).max(asked);
                self.next = Instant::now() + pause;
                tell(&failure, before, self.clock.now(), pause);
                if remarks.knows_no_account {
                    account::set_aside(&self.store);
                }
                self.give_up_order(&failure);
            }
        }
    }

    /// Gets a certificate, and puts it in the place of the one before.
    async fn get(&self, client: &DirectoryClient, before: Option<&Facts>) -> Result<Facts, Failure> {
        let account = account::open(&self.store, &self.config, client).await?;
        let pending = match self.pending() {
            Some(pending) => {
                let mut order = pending.url.clone();
                text::cut(&mut order, LONGEST_URL);
                tracing::info!(order, "the order that was under way is taken up again");
                pending
            }
            None => self.order(&account).await?,
        };
        let chain = order::finish(&account, &pending).await?;
        let received = ReceivedChain::read(&chain, &pending.key);
        let now = self.clock.now();
        self.store.note_issued(Issued::new(now, received.as_ref().ok().map(|chain| &chain.facts)), now)?;
        let received = received?;
        // One that nobody takes yet is better than none, and worse than a good one.
        let is_good = |facts: &&Facts| self.is_for_all(facts) && facts.is_valid(now);
        let early = if before.filter(is_good).is_some() { 0 } else { EARLY };
        received.check(&self.config.domains, now, early)?;
        self.store.take(&chain, &pending.key)?;
        self.store.forget_pending()?;
        Ok(received.facts)
    }

    /// Makes an order and proves its domains; it is kept until its certificate is here.
    async fn order(&self, account: &Account) -> Result<PendingOrder, Failure> {
        let domains: Vec<&str> = self.config.domains.iter().map(|domain| domain.as_str()).collect();
        tracing::info!(
            domains = domains.join(" "),
            directory = self.config.directory,
            "a TLS certificate is ordered; to prove the names, their port 443 has to lead to HTTPS here"
        );
        let now = self.clock.now();
        self.store.note_order(now)?;
        // What a directory knows as replaced may be free of its limits. If it does not like that, the next attempt does without.
        let replaces = advice::identifier(&self.store.files());
        let replaces = replaces.filter(|_| self.failures == 0 && self.advice.moment().is_some());
        let pending = order::begin(account, &self.config.domains, replaces, &self.challenges, now).await?;
        self.store.keep_pending(&pending)?;
        Ok(pending)
    }

    /// Gives the order up that is under way, where nothing comes of it.
    fn give_up_order(&self, failure: &Failure) {
        let is_old = |order: PendingOrder| order.is_old(self.clock.now());
        if self.store.pending().is_some_and(|order| failure.ends_order(is_old(order)))
            && let Err(error) = self.store.forget_pending()
        {
            tracing::error!(%error, "an order that nothing comes of cannot be forgotten");
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
