//! Retries of a download: their number, the pauses between them, and their reports.

use core::time::Duration;

use otaru_format::status::UpdateState;
use rand_core::RngCore;

use super::failure::Failure;
use crate::backoff::Pauses;
use crate::board::Clock;
use crate::config::Config;
use crate::http::{FetchError, RetryPolicy};
use crate::report::Reports;
use crate::text;
use crate::timeout::millis;
use crate::uplink::Uplink;

/// Progress that makes the count of failed attempts start again, in bytes.
const HEADWAY: u32 = 64 * 1024;
/// A server's `Retry-After` is followed up to here.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Attempts at one download, as many as make headway.
pub(super) struct Retries<'r, C, R> {
    clock: &'r C,
    config: &'r Config<'r>,
    reports: &'r Reports<'r>,
    uplink: &'r Uplink,
    rng: &'r mut R,
    pauses: Pauses,
    attempt: u8,
    /// Byte of the file up to which headway has counted.
    furthest: u32,
}

impl<'r, C, R> Retries<'r, C, R> {
    pub(super) const fn new(
        clock: &'r C,
        config: &'r Config<'r>,
        reports: &'r Reports<'r>,
        uplink: &'r Uplink,
        rng: &'r mut R,
    ) -> Self {
        let pauses = Pauses::new(config.retry);
        Self { clock, config, reports, uplink, rng, pauses, attempt: 1, furthest: 0 }
    }
}

impl<C: Clock, R: RngCore> RetryPolicy for Retries<'_, C, R> {
    async fn ready(&mut self) {
        self.uplink.wait(self.clock).await;
    }

    fn left_tls(&mut self) {
        self.reports.left_tls();
    }

    async fn pause(&mut self, error: FetchError, at: u32) -> Result<(), FetchError> {
        if at >= self.furthest.saturating_add(HEADWAY) {
            self.furthest = at;
            self.attempt = 0;
            self.pauses.reset();
        }
        if !error.is_transient() || self.attempt >= self.config.attempts {
            return Err(error);
        }
        // While the device itself is off the network, the server has not failed.
        self.attempt = self.attempt.saturating_add(1);
        if !self.uplink.is_up() {
            self.attempt = 1;
            self.pauses.reset();
        }
        let pause = match error.retry_after() {
            Some(asked) => asked.max(self.pauses.pause(self.rng)).min(LONGEST_RETRY_AFTER),
            None => self.pauses.pause(self.rng),
        };
        text::warn(format_args!("download: {error}; attempt {} in {} ms", self.attempt, millis(pause)));
        let failure = Failure::new(error.code(), format_args!("{error}; retrying"));
        self.reports.fault(UpdateState::Retrying, failure.code, &failure.detail);
        self.reports.attempt(self.attempt);
        match error.retry_after() {
            Some(_) => self.clock.sleep(pause).await,
            None => _ = self.uplink.pause(self.clock, pause).await,
        }
        Ok(())
    }
}
