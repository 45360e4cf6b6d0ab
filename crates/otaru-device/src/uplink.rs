//! Whether the network is there: the session looks every second, a download asks.

use core::cell::Cell;
use core::time::Duration;

use crate::board::Clock;

/// How often link and connection are checked.
pub(crate) const CHECK: Duration = Duration::from_secs(1);

/// What the session last saw of the link.
#[derive(Debug)]
pub(crate) struct Uplink(Cell<bool>);

impl Uplink {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(true))
    }

    pub(crate) fn set(&self, up: bool) {
        self.0.set(up);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.0.get()
    }

    /// Waits for the network, for as long as that takes.
    pub(crate) async fn wait<C: Clock>(&self, clock: &C) {
        while !self.is_up() {
            clock.sleep(CHECK).await;
        }
    }
}
