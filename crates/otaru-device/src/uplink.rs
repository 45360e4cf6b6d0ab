//! Whether the network is there, as the link's loop (`link.rs`) sees it: the session waits for it, a download asks.

use core::cell::Cell;
use core::time::Duration;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;

use crate::board::Clock;

/// Interval of checking link and connection.
pub(crate) const CHECK: Duration = Duration::from_secs(1);

/// State of the link when it was last looked at.
pub(crate) struct Uplink {
    up: Cell<bool>,
    rssi: Cell<Option<i8>>,
    /// Counts the times the network was joined, so that a short absence is not overlooked.
    joins: Cell<u32>,
    /// Whether the broker took a report since the start.
    reached: Cell<bool>,
    /// For the session alone: a signal wakes one who waits.
    changed: Signal<NoopRawMutex, ()>,
}

impl Uplink {
    pub(crate) const fn new() -> Self {
        Self {
            up: Cell::new(false),
            rssi: Cell::new(None),
            joins: Cell::new(0),
            reached: Cell::new(false),
            changed: Signal::new(),
        }
    }

    pub(crate) fn set(&self, up: bool, rssi: Option<i8>) {
        self.rssi.set(rssi);
        if self.up.replace(up) != up {
            self.joins.set(self.joins.get().wrapping_add(u32::from(up)));
            self.changed.signal(());
        }
    }

    /// The broker took a report.
    pub(crate) fn set_reached(&self) {
        self.reached.set(true);
    }

    pub(crate) fn has_reached(&self) -> bool {
        self.reached.get()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Signal strength of the network, in dBm.
    pub(crate) fn rssi(&self) -> Option<i8> {
        self.rssi.get()
    }

    /// Waits for the network, for as long as that takes.
    pub(crate) async fn wait<C: Clock>(&self, clock: &C) {
        while !self.is_up() {
            clock.sleep(CHECK).await;
        }
    }

    /// Sleeps; a network that comes back ends that, which is then true.
    pub(crate) async fn pause<C: Clock>(&self, clock: &C, length: Duration) -> bool {
        let (join, end) = (self.joins.get(), clock.now() + length);
        loop {
            let left = end.saturating_sub(clock.now());
            if self.joins.get() != join || left.is_zero() {
                return self.joins.get() != join;
            }
            clock.sleep(left.min(CHECK)).await;
        }
    }

    /// Waits for the network; says which joining of it this is.
    pub(crate) async fn joined(&self) -> u32 {
        while !self.is_up() {
            self.changed.wait().await;
        }
        self.joins.get()
    }

    /// Waits for the end of that joining.
    pub(crate) async fn lost(&self, join: u32) {
        while self.is_up() && self.joins.get() == join {
            self.changed.wait().await;
        }
    }

    /// Waits until the network was joined again since that joining.
    pub(crate) async fn joined_again(&self, join: u32) {
        while !self.is_up() || self.joins.get() == join {
            self.changed.wait().await;
        }
    }
}
