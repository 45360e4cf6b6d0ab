//! How many connections there may be, and whose.
//!
//! Most places are for everybody. One address may have a share of them as long as nobody who logged in is behind it. When they are
//! taken, connections whose peers are waited for make room (see [`super::waiting`]). Where none does, a few more are left for short
//! requests: so whoever looks whether the server is well, or at what is wrong, gets an answer.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::waiting::{Entry, Wait, Waits};
use crate::address::origin;
use crate::counts::{Counted, Counts};

/// Limits of the HTTP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time, for everybody.
    pub connections: usize,
    /// More of them, for one short request each.
    pub reserve: usize,
    /// Connections, or requests through a trusted proxy, of one address, where nobody has logged in.
    pub per_address: usize,
    /// Event streams of one token.
    pub streams: usize,
    /// Time for a request's head, and for which a connection may be idle.
    pub head: Duration,
    /// Time for which a reader may take nothing of an answer.
    pub stall: Duration,
    /// Time for which a peer is waited for though there is no room for others; ten times that once it has logged in.
    pub patience: Duration,
}

/// The most connections of one address; a thousand devices may have one in common.
const MOST_PER_ADDRESS: usize = 1_250;
/// The most event streams of one token.
const MOST_STREAMS: usize = 256;
/// How often it is looked for room while there is none.
const LOOK: Duration = Duration::from_millis(50);
/// How long a download waits for room.
const DOWNLOAD: Duration = Duration::from_secs(2);

impl Limits {
    /// Limits for so many connections in all.
    pub fn for_connections(all: usize) -> Self {
        let reserve = (all / 8).max(1);
        let connections = all.saturating_sub(reserve).max(1);
        Self {
            connections,
            reserve,
            per_address: MOST_PER_ADDRESS.min(connections / 2).max(1),
            streams: MOST_STREAMS.min(connections / 4).max(1),
            head: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            patience: Duration::from_millis(500),
        }
    }

    /// Of the reserve, what one address may have.
    fn reserve_per_address(&self) -> usize {
        (self.reserve / 4).max(1)
    }

    /// Time for a request's head in the reserve.
    pub(super) fn short_head(&self) -> Duration {
        self.head / 3
    }

    /// Time for which a reader in the reserve may take nothing.
    pub(super) fn short_stall(&self) -> Duration {
        self.stall / 3
    }
}

impl Default for Limits {
    /// What the files that this process may open have room for.
    fn default() -> Self {
        Self::for_connections(crate::files::room().http)
    }
}

/// The places there are.
#[derive(Debug)]
pub(super) struct Room {
    everybody: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    strangers: Arc<Counts<IpAddr>>,
    in_reserve: Arc<Counts<IpAddr>>,
    waits: Arc<Waits>,
    patience: Duration,
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Place {
    /// Whether it is one of the reserve.
    pub(super) reserved: bool,
    /// Who has it, as far as that counts.
    pub(super) stranger: Stranger,
    /// Since when its peer is waited for.
    pub(super) entry: Entry,
    _reserve: Option<OwnedSemaphorePermit>,
}

/// Somebody who is counted by address until they log in. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Stranger {
    counts: Arc<Mutex<Vec<Counted<IpAddr>>>>,
    /// Their connection.
    wait: Option<Arc<Wait>>,
}

impl Stranger {
    fn counted(count: Counted<IpAddr>) -> Self {
        Self { counts: Arc::new(Mutex::new(vec![count])), wait: None }
    }

    fn count(&self, count: Counted<IpAddr>) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).push(count);
    }

    /// The same, on this connection.
    pub(super) fn on(mut self, wait: &Arc<Wait>) -> Self {
        self.wait = Some(Arc::clone(wait));
        self
    }

    /// They logged in, and count no more.
    pub fn is_known(&self) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(wait) = &self.wait {
            wait.is_known();
        }
    }
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            everybody: Arc::new(Semaphore::new(limits.connections)),
            reserve: Arc::new(Semaphore::new(limits.reserve)),
            strangers: Counts::new(limits.per_address),
            in_reserve: Counts::new(limits.reserve_per_address()),
            waits: Arc::default(),
            patience: limits.patience,
        }
    }

    /// A place for a connection from `peer`; for one from a proxy, whose requests are counted instead, there is no address. Waits
    /// while all are taken. `None` when the address has as many as it may.
    pub(super) async fn place(&self, peer: Option<IpAddr>) -> Option<Place> {
        let peer = peer.map(origin);
        let stranger = match peer {
            Some(peer) => Stranger::counted(self.stranger(peer)?),
            None => Stranger::default(),
        };
        let place = |permit, reserve: Option<OwnedSemaphorePermit>| Place {
            reserved: reserve.is_some(),
            stranger: stranger.clone(),
            entry: self.waits.list(peer, stranger.clone(), permit),
            _reserve: reserve,
        };
        if let Some(permit) = self.for_everybody() {
            return Some(place(Some(permit), None));
        }
        if let Some(peer) = peer {
            stranger.count(self.in_reserve.take(peer)?);
        }
        loop {
            if let Ok(permit) = Arc::clone(&self.reserve).try_acquire_owned() {
                return Some(place(None, Some(permit)));
            }
            sleep(LOOK).await;
            if let Some(permit) = self.for_everybody() {
                return Some(place(Some(permit), None));
            }
        }
    }

    /// One of the places of an address; if all are taken, that of somebody there who is waited for.
    fn stranger(&self, peer: IpAddr) -> Option<Counted<IpAddr>> {
        self.strangers.take(peer).or_else(|| {
            self.waits.make_room(Some(peer), self.patience);
            self.strangers.take(peer)
        })
    }

    /// One of the places for everybody; if all are taken, that of somebody who is waited for.
    fn for_everybody(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.everybody).try_acquire_owned().ok();
        permit.or_else(|| self.waits.make_room(None, self.patience))
    }

    /// The same for a download that came in by the reserve, if there is one soon.
    pub(super) async fn for_download(&self) -> Option<OwnedSemaphorePermit> {
        let place = async {
            loop {
                match self.for_everybody() {
                    Some(permit) => return permit,
                    None => sleep(LOOK).await,
                }
            }
        };
        timeout(DOWNLOAD, place).await.ok()
    }

    /// A place for a request that a proxy passes on from `sender`. `None` when that address has as many as it may.
    pub(super) fn request(&self, sender: IpAddr) -> Option<Stranger> {
        Some(Stranger::counted(self.strangers.take(origin(sender))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_out_of_reach() {
        for all in [1, 16, 128, 1_000, 8_192] {
            let limits = Limits::for_connections(all);
            assert!(limits.connections + limits.reserve <= all.max(2), "{limits:?}");
            assert!(limits.per_address <= limits.connections && limits.streams <= limits.connections);
            assert!(
                all < 8 || limits.per_address < limits.connections,
                "one address cannot take all: {limits:?}"
            );
        }
        let limits = Limits::for_connections(8_192);
        assert!(limits.per_address >= 1_000, "a thousand devices behind one address: {limits:?}");
    }

    #[tokio::test]
    async fn who_logged_in_counts_no_more() {
        let room = Room::new(&Limits { per_address: 1, ..Limits::for_connections(64) });
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        let first = room.place(peer).await.unwrap();
        assert!(room.place(peer).await.is_none());
        first.stranger.is_known();
        assert!(room.place(peer).await.is_some());
        assert!(room.place(None).await.is_some(), "a proxy is no address");
    }

    #[tokio::test]
    async fn an_address_has_a_part_of_the_reserve() {
        let limits = Limits { connections: 1, reserve: 4, per_address: 9, ..Limits::for_connections(64) };
        let room = Room::new(&limits);
        let peer = |last| Some(IpAddr::from([192, 0, 2, last]));
        let first = room.place(peer(1)).await.unwrap();
        let second = room.place(peer(1)).await.unwrap();
        assert!(!first.reserved && second.reserved);
        assert!(room.place(peer(1)).await.is_none());
        assert!(room.place(peer(2)).await.unwrap().reserved);
    }
}
