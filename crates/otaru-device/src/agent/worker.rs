//! The worker, which takes one command at a time, and what all its steps share.

use core::cell::RefCell;
use core::time::Duration;

use super::boot::Boot;
use super::workspace::Workspace;
use crate::config::Config;
use crate::dial::Dialer;
use crate::job::{Inbox, Job};
use crate::memory::Retry;
use crate::platform::Platform;
use crate::report::Reports;
use crate::uplink::Uplink;

/// Longest wait for the broker to take a change of state; then the update goes on without it.
pub(super) const ANNOUNCE: Duration = Duration::from_secs(2);

/// Takes one command at a time.
pub(super) struct Worker<'w, P: Platform> {
    pub(super) dialer: Dialer<'w, P::Net, P::Tls>,
    pub(super) clock: &'w P::Clock,
    pub(super) config: &'w Config<'w>,
    pub(super) flash: &'w mut P::Flash,
    pub(super) board: &'w RefCell<P::Board>,
    pub(super) health: &'w mut P::Health,
    pub(super) rng: &'w mut P::Rng,
    pub(super) reports: &'w Reports<'w>,
    pub(super) inbox: &'w Inbox,
    pub(super) uplink: &'w Uplink,
    pub(super) boot: &'w mut Boot,
    pub(super) workspace: &'w mut Workspace,
    /// The trial that is to be repeated.
    pub(super) retry: Option<Retry>,
    /// Time at which a command was last written to flash, by the clock.
    pub(super) written: Option<Duration>,
    /// Whether the history has changed since it was written.
    pub(super) unkept: bool,
}

impl<P: Platform> Worker<'_, P> {
    /// Lets the session acknowledge a command.
    pub(super) fn settled(&self, job: &Job) {
        self.inbox.settle(job);
        self.reports.wake();
    }
}
