//! Limits of the HTTP listener: connections, whose, and for how long.

use std::time::Duration;

/// The most connections of one address; a thousand devices may have one in common.
const MOST_PER_ADDRESS: usize = 1_250;
/// The most event streams of one token.
const MOST_STREAMS: usize = 256;
/// Limits of the HTTP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time, for everybody.
    pub connections: usize,
    /// More of them, for one short answer each.
    pub reserve: usize,
    /// More of them, that wait for a place.
    pub queue: usize,
    /// Connections, or requests through a trusted proxy, of one address, where nobody has logged in.
    pub per_address: usize,
    /// Event streams of one token.
    pub streams: usize,
    /// Time for a handshake of TLS.
    pub handshake: Duration,
    /// Time for a request's head, and for which a connection may be idle.
    pub head: Duration,
    /// Time for which a reader may take nothing of an answer.
    pub stall: Duration,
    /// Time for which a peer is waited for though there is no room for others; ten times that once it has logged in.
    pub patience: Duration,
}

impl Limits {
    /// Limits for so many connections in all.
    pub fn for_connections(all: usize) -> Self {
        let (reserve, queue) = ((all / 8).max(1), (all / 8).max(1));
        let connections = all.saturating_sub(reserve + queue).max(1);
        Self {
            connections,
            reserve,
            queue,
            per_address: MOST_PER_ADDRESS.min(connections / 2).max(1),
            streams: MOST_STREAMS.min(connections / 4).max(1),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            patience: Duration::from_millis(500),
        }
    }

    /// Of the reserve, what one address may have: so little that it takes very many to fill it.
    pub(super) fn reserve_per_address(&self) -> usize {
        (self.reserve / 64).max(1)
    }

    /// Of the queue, what one address may have.
    pub(super) fn queue_per_address(&self) -> usize {
        (self.queue / 16).max(1)
    }

    /// Time for a request's head in the reserve.
    pub(super) fn short_head(&self) -> Duration {
        self.head / 3
    }

    /// Time for a handshake in the reserve.
    pub(super) fn short_handshake(&self) -> Duration {
        self.handshake / 3
    }

    /// Time for which a reader in the reserve may take nothing.
    pub(super) fn short_stall(&self) -> Duration {
        self.stall / 3
    }
}

impl Default for Limits {
    /// As much as the files that this process may open have room for.
    fn default() -> Self {
        Self::for_connections(crate::files::room().http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_out_of_reach() {
        for all in [1, 16, 128, 1_000, 8_192] {
            let limits = Limits::for_connections(all);
            let sum = limits.connections + limits.reserve + limits.queue;
            assert!(sum <= all.max(3), "{limits:?}");
            assert!(limits.per_address <= limits.connections && limits.streams <= limits.connections);
            assert!(
                all < 8 || limits.per_address < limits.connections,
                "one address cannot take all: {limits:?}"
            );
        }
        let limits = Limits::for_connections(8_192);
        assert!(limits.per_address >= 1_000, "a thousand devices behind one address: {limits:?}");
    }
}
