//! Times of a connection.

use std::time::Duration;

/// Times of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time for a broker to accept a connection, a subscription or a message, and to answer a ping.
    pub(super) answer: Duration,
    /// Longest silence that the broker is to expect.
    pub(super) keep_alive: Duration,
    /// Pause before the same broker is asked again in the first attempt to connect: it closed without a byte.
    pub(super) soon: Duration,
    /// The first pause before a lost broker is tried again, at most.
    pub(super) shortest_pause: Duration,
    /// The longest such pause.
    pub(super) longest_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            keep_alive: Duration::from_secs(20),
            soon: Duration::from_millis(100),
            // Chance makes it half of that.
            shortest_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
        }
    }
}
