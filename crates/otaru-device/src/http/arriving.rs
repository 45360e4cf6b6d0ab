//! An answer whose body arrives: how much of the file it may still bring, and whether it comes fast enough.

use core::time::Duration;

use super::body::Body;
use super::config::HttpConfig;
use crate::board::Clock;

/// An answer whose body arrives.
pub(super) struct Arriving {
    pub(super) body: Body,
    /// Bytes that it may still have.
    pub(super) room: u32,
    /// Byte of the file that it was asked to end in front of.
    pub(super) end: u32,
    /// The whole file came although a part was asked for.
    pub(super) is_whole: bool,
    /// Another answer may follow on the connection.
    pub(super) is_kept: bool,
    pub(super) pace: Pace,
}

impl Arriving {
    /// Drops the first `count` bytes of the piece.
    pub(super) fn consume(&mut self, count: u32) {
        self.body.consume(count);
        self.room = self.room.saturating_sub(count);
        self.pace.arrived = self.pace.arrived.saturating_add(count);
    }

    /// Returns whether the connection can be asked again.
    pub(super) const fn leaves_connection(&self) -> bool {
        self.is_kept && self.body.is_left_behind()
    }
}

/// Watches how fast a body arrives.
pub(super) struct Pace {
    /// Time at which it counts as stalled, by the clock.
    deadline: Duration,
    /// Time at which the reader got the last bytes.
    handed: Duration,
    /// Bytes since the deadline was set.
    arrived: u32,
}

impl Pace {
    /// Begins now.
    pub(super) fn new(clock: &impl Clock, config: &HttpConfig) -> Self {
        let now = clock.now();
        Self { deadline: now + config.stall_timeout, handed: now, arrived: 0 }
    }

    /// Returns how long to wait for the next bytes. Time the reader took is not the server's fault.
    pub(super) fn wait(&mut self, clock: &impl Clock, config: &HttpConfig) -> Duration {
        let now = clock.now();
        self.deadline += now.saturating_sub(self.handed);
        self.handed = now;
        if self.arrived >= config.least_rate {
            self.arrived = 0;
            self.deadline = now + config.stall_timeout;
        }
        self.deadline.saturating_sub(now)
    }

    /// Takes note that the reader gets bytes.
    pub(super) fn hand_over(&mut self, clock: &impl Clock) {
        self.handed = clock.now();
    }
}
