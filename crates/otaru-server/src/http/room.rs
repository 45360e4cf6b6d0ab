//! Room for connections: how many there may be in all, and of each peer.
//!
//! Most places are for everybody. One address may have a share of them as long as nobody who logged in is behind it. When they are
//! taken, connections whose peers are waited for make room (see [`super::waiting`]). Where none does, a few more are left for short
//! requests, and one address gets very few of those: so whoever looks whether the server is well, or at what is wrong, gets an answer
//! at once. The rest wait in a queue of bounded length ([`super::queue`]), and never in the way of those that come after them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::limits::Limits;
use super::queue::{Queue, Queued};
use super::stranger::Stranger;
use super::waiting::{Among, Entry, Waits};
use crate::address::origin;
use crate::quotas::{QuotaPermit, Quotas};

/// Interval of looking for room while there is none.
const LOOK: Duration = Duration::from_millis(50);
/// The longest wait of a connection in the queue.
const QUEUED: Duration = Duration::from_secs(10);
/// The longest wait of a long answer for a place for everybody.
const LONG_ANSWER: Duration = Duration::from_secs(2);

/// The places there are.
#[derive(Debug)]
pub(super) struct Room {
    everybody: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    queue: Arc<Queue>,
    strangers: Arc<Quotas<IpAddr>>,
    in_reserve: Arc<Quotas<IpAddr>>,
    waits: Arc<Waits>,
    patience: Duration,
}

/// The outcome for a connection that comes: served, or queued.
#[derive(Debug)]
pub(super) enum Admission {
    /// A place.
    ConnectionSlot(ConnectionSlot),
    /// None yet.
    Queue(Queued, Stranger),
}

/// One of the places that an address may have in the reserve. Once it is free, the next of that address that waits is told.
#[derive(Debug)]
struct ReserveShare {
    permit: Option<QuotaPermit<IpAddr>>,
    queue: Arc<Queue>,
    peer: IpAddr,
}

impl Drop for ReserveShare {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.queue.wake(self.peer);
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    /// Whether it was one of the reserve when it came.
    pub(super) reserved: bool,
    /// Owner of the place, as far as that counts.
    pub(super) stranger: Stranger,
    /// Since when its peer is waited for.
    pub(super) entry: Entry,
    /// Of the reserve's, one of its address.
    counted: Mutex<Option<ReserveShare>>,
}

impl ConnectionSlot {
    /// It has one of the places for everybody from now on.
    pub(super) fn leaves_reserve(&self, permit: OwnedSemaphorePermit) {
        drop(self.entry.wait.leaves_reserve(permit));
        drop(self.counted.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            everybody: Arc::new(Semaphore::new(limits.connections)),
            reserve: Arc::new(Semaphore::new(limits.reserve)),
            queue: Queue::new(limits.queue, limits.queue_per_address()),
            strangers: Quotas::new(limits.per_address),
            in_reserve: Quotas::new(limits.reserve_per_address()),
            waits: Arc::default(),
            patience: limits.patience,
        }
    }

    /// A place, or one in the queue, for a connection from `peer`; for one from a proxy, whose requests are counted instead, there is no
    /// address. `None` when the address, or everybody, has as many as there may be.
    pub(super) fn admit(&self, peer: Option<IpAddr>) -> Option<Admission> {
        let peer = peer.map(origin);
        let stranger = match peer {
            Some(peer) => Stranger::counted(self.stranger(peer)?),
            None => Stranger::default(),
        };
        if let Some(place) = self.place(peer, &stranger) {
            return Some(Admission::ConnectionSlot(place));
        }
        Some(Admission::Queue(self.queue.enter(peer)?, stranger))
    }

    /// The place of a connection that waits for one; `None` when none comes free in time, or it had to make room for another.
    pub(super) async fn wait(&self, queued: Queued, stranger: Stranger) -> Option<ConnectionSlot> {
        let (peer, turn) = (queued.peer, &queued.turn);
        let place = async {
            loop {
                if let Some(place) = self.place(peer, &stranger) {
                    return place;
                }
                tokio::select! {
                    permit = self.freed() => if let Some(permit) = permit {
                        return self.list(peer, &stranger, permit);
                    },
                    () = turn.freed.notified() => {}
                }
            }
        };
        tokio::select! {
            place = timeout(QUEUED, place) => place.ok(),
            () = turn.ended.cancelled() => None,
        }
    }

    /// A place, if there is one just now: one for everybody, or one of the reserve.
    fn place(&self, peer: Option<IpAddr>, stranger: &Stranger) -> Option<ConnectionSlot> {
        match self.for_everybody() {
            Some(permit) => Some(self.list(peer, stranger, permit)),
            None => self.in_reserve(peer, stranger),
        }
    }

    fn list(
        &self,
        peer: Option<IpAddr>,
        stranger: &Stranger,
        permit: OwnedSemaphorePermit,
    ) -> ConnectionSlot {
        let entry = self.waits.list(peer, stranger.count(), permit, false);
        ConnectionSlot { reserved: false, stranger: stranger.clone(), entry, counted: Mutex::default() }
    }

    /// One of the reserve's places, if the address may have it.
    fn in_reserve(&self, peer: Option<IpAddr>, stranger: &Stranger) -> Option<ConnectionSlot> {
        let counted = match peer {
            Some(peer) => Some((self.in_reserve.take(peer)?, peer)),
            None => None,
        };
        let permit = Arc::clone(&self.reserve).try_acquire_owned().ok();
        let permit = permit.or_else(|| self.waits.make_room(Among::Reserve, self.patience))?;
        let entry = self.waits.list(peer, stranger.count(), permit, true);
        // Only from here on: whoever finds no room has freed none, and would wake itself.
        let share = counted.map(|(permit, peer)| ReserveShare {
            permit: Some(permit),
            queue: Arc::clone(&self.queue),
            peer,
        });
        Some(ConnectionSlot { reserved: true, stranger: stranger.clone(), entry, counted: Mutex::new(share) })
    }

    /// Of the reserve, a part of what one address may have, for a request that a proxy passes on from `sender`.
    pub(super) fn request_in_reserve(&self, sender: IpAddr) -> Option<QuotaPermit<IpAddr>> {
        self.in_reserve.take(origin(sender))
    }

    /// One of the places of an address; if all are taken, that of somebody there who is waited for.
    fn stranger(&self, peer: IpAddr) -> Option<QuotaPermit<IpAddr>> {
        self.strangers.take(peer).or_else(|| {
            self.waits.make_room(Among::Address(peer), self.patience);
            self.strangers.take(peer)
        })
    }

    /// One of the places for everybody; if all are taken, that of somebody who is waited for.
    fn for_everybody(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.everybody).try_acquire_owned().ok();
        permit.or_else(|| self.waits.make_room(Among::Everybody, self.patience))
    }

    /// The same for a long answer to somebody in the reserve, if there is one soon.
    pub(super) async fn for_long_answer(&self) -> Option<OwnedSemaphorePermit> {
        let place = async {
            loop {
                if let Some(permit) = self.for_everybody() {
                    return permit;
                }
                if let Some(permit) = self.freed().await {
                    return permit;
                }
            }
        };
        timeout(LONG_ANSWER, place).await.ok()
    }

    /// One of the places for everybody that somebody leaves before it is time to look again; those that wait have their turn.
    async fn freed(&self) -> Option<OwnedSemaphorePermit> {
        timeout(LOOK, Arc::clone(&self.everybody).acquire_owned()).await.ok()?.ok()
    }

    /// A place for a request that a proxy passes on from `sender`. `None` when that address has as many as it may.
    pub(super) fn request(&self, sender: IpAddr) -> Option<Stranger> {
        Some(Stranger::counted(self.strangers.take(origin(sender))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(admission: Option<Admission>) -> ConnectionSlot {
        match admission {
            Some(Admission::ConnectionSlot(place)) => place,
            other => panic!("no place: {other:?}"),
        }
    }

    #[test]
    fn who_logged_in_counts_no_more() {
        let room = Room::new(&Limits { per_address: 1, ..Limits::for_connections(64) });
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        let first = place(room.admit(peer));
        assert!(room.admit(peer).is_none());
        first.stranger.is_known();
        assert!(room.admit(peer).is_some());
        assert!(room.admit(None).is_some(), "a proxy is no address");
    }

    #[tokio::test]
    async fn whoever_finds_no_room_wakes_nobody() {
        let limits = Limits { connections: 1, reserve: 1, queue: 4, ..Limits::for_connections(64) };
        let room = Room::new(&limits);
        let peer = |last| Some(IpAddr::from([192, 0, 2, last]));
        let _taken = [place(room.admit(peer(1))), place(room.admit(peer(2)))];
        let Some(Admission::Queue(queued, stranger)) = room.admit(peer(3)) else { panic!("a place") };
        assert!(room.place(queued.peer, &stranger).is_none());
        let woken = queued.turn.freed.notified();
        assert!(timeout(Duration::from_millis(1), woken).await.is_err(), "nothing was freed");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_are_in_nobodys_way() {
        let limits = Limits {
            connections: 1,
            reserve: 4,
            queue: 32,
            per_address: 9,
            // By a clock that is not paused.
            patience: Duration::from_secs(60),
            ..Limits::for_connections(64)
        };
        let room = Room::new(&limits);
        let peer = |last| Some(IpAddr::from([192, 0, 2, last]));
        let first = place(room.admit(peer(1)));
        let second = place(room.admit(peer(1)));
        assert!(!first.reserved && second.reserved);
        let mut queued = Vec::new();
        for _ in 0..2 {
            match room.admit(peer(1)) {
                Some(Admission::Queue(place, stranger)) => queued.push((place, stranger)),
                other => panic!("an address has one place of the reserve: {other:?}"),
            }
        }
        assert!(room.admit(peer(1)).is_none(), "a part of the queue");
        assert!(place(room.admit(peer(2))).reserved, "others find a place at once");
        let (first_waiting, stranger) = queued.remove(0);
        assert!(room.wait(first_waiting, stranger).await.is_none(), "none comes free in time");
        drop(second);
        let (second_waiting, stranger) = queued.remove(0);
        assert!(room.wait(second_waiting, stranger).await.unwrap().reserved, "or one of the reserve");
        drop(first);
        match room.admit(peer(1)) {
            Some(Admission::ConnectionSlot(place)) => assert!(!place.reserved),
            other => panic!("{other:?}"),
        }
    }
}
