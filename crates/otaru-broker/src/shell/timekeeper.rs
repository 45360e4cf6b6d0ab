//! A task that does what is due: wills, ends of sessions and of retained messages.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::shared::{Shared, now};
use crate::policy::Policy;

/// Longest sleep, after which the timekeeper looks whether its broker is still there.
const LOOK: Duration = Duration::from_secs(60);

/// Runs until the broker is gone.
pub(super) async fn keep_time<P: Policy>(shared: Weak<Shared<P>>) {
    while let Some(shared) = shared.upgrade() {
        if shared.is_stopping() {
            return;
        }
        let latest = now() + LOOK;
        let next = shared.tick().map_or(latest, |due| due.min(latest));
        match next > now() {
            true => wait(&shared, Instant::from_std(next)).await,
            // There is more, but others have waited.
            false => tokio::task::yield_now().await,
        }
    }
}

async fn wait<P: Policy>(shared: &Arc<Shared<P>>, until: Instant) {
    let _ = timeout_at(until, shared.sooner.notified()).await;
}
