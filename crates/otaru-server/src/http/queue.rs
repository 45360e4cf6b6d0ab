//! The queue of connections that wait for a place: so many in all, and so many of an address. When it is full, the address that has the
//! most in it makes room for one that has at least two fewer, so that a crowd from many addresses keeps nobody out who comes from one of his own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Connections that wait. Those of a proxy, which are many people's, have no address; those beyond half of the queue make room for others.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    per_address: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    /// Number of the newest.
    last: u64,
    /// Of proxies.
    proxied: BTreeMap<u64, Arc<Turn>>,
    by_address: HashMap<IpAddr, BTreeMap<u64, Arc<Turn>>>,
    /// Addresses by how many they have here.
    ranks: BTreeSet<(usize, IpAddr)>,
}

/// Signals to one that waits.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// A place that it may have is free now.
    pub(super) freed: Notify,
    /// It has made room for another.
    pub(super) ended: CancellationToken,
}

/// A connection's place in the queue, until this is dropped.
#[derive(Debug)]
pub(super) struct Queued {
    queue: Arc<Queue>,
    pub(super) peer: Option<IpAddr>,
    number: u64,
    pub(super) turn: Arc<Turn>,
}

impl Queue {
    pub(super) fn new(most: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, per_address, waiting: Mutex::default() })
    }

    /// Takes one in; `None` when its address has as many as it may, or the queue is full and no other would still have as many as it.
    pub(super) fn enter(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Queued> {
        let mut waiting = self.lock();
        // One that has no address asks as one of a small crowd.
        let own = peer.map_or(1, |peer| waiting.of(peer));
        if peer.is_some() && own >= self.per_address {
            return None;
        }
        if waiting.count >= self.most {
            let largest =
                waiting.ranks.last().filter(|(most, _)| *most >= own + 2).map(|(_, largest)| *largest);
            match largest {
                Some(largest) => waiting.end_newest(largest),
                None if peer.is_some() && waiting.proxied.len() > self.most / 2 => waiting.end_proxied(),
                None => return None,
            }
        }
        let turn = Arc::new(Turn::default());
        let number = waiting.add(peer, &turn);
        drop(waiting);
        Some(Queued { queue: Arc::clone(self), peer, number, turn })
    }

    /// Tells the one of this address that has waited for longest that a place is free that it may have.
    pub(super) fn wake(&self, peer: IpAddr) {
        if let Some((_, turn)) = self.lock().by_address.get(&peer).and_then(BTreeMap::first_key_value) {
            turn.freed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn of(&self, peer: IpAddr) -> usize {
        self.by_address.get(&peer).map_or(0, BTreeMap::len)
    }

    fn add(&mut self, peer: Option<IpAddr>, turn: &Arc<Turn>) -> u64 {
        self.last += 1;
        self.count += 1;
        let number = self.last;
        match peer {
            Some(peer) => self.change(peer, |own| drop(own.insert(number, Arc::clone(turn)))),
            None => drop(self.proxied.insert(number, Arc::clone(turn))),
        }
        number
    }

    fn remove(&mut self, peer: Option<IpAddr>, number: u64) {
        let mut was_here = false;
        match peer {
            Some(peer) => self.change(peer, |own| was_here = own.remove(&number).is_some()),
            None => was_here = self.proxied.remove(&number).is_some(),
        }
        // One that had to make room is gone already.
        self.count -= usize::from(was_here);
    }

    fn end_newest(&mut self, peer: IpAddr) {
        let mut newest = None;
        self.change(peer, |own| newest = own.pop_last());
        if let Some((_, turn)) = newest {
            self.count -= 1;
            turn.ended.cancel();
        }
    }

    fn end_proxied(&mut self) {
        if let Some((_, turn)) = self.proxied.pop_last() {
            self.count -= 1;
            turn.ended.cancel();
        }
    }

    /// Changes what an address has here, and ranks it anew.
    fn change(&mut self, peer: IpAddr, how: impl FnOnce(&mut BTreeMap<u64, Arc<Turn>>)) {
        let own = self.by_address.entry(peer).or_default();
        let before = own.len();
        how(own);
        let after = own.len();
        if after == 0 {
            self.by_address.remove(&peer);
        }
        self.ranks.remove(&(before, peer));
        if after > 0 {
            self.ranks.insert((after, peer));
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queue.lock().remove(self.peer, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn ended(queued: &[Queued]) -> Vec<bool> {
        queued.iter().map(|one| one.turn.ended.is_cancelled()).collect()
    }

    #[test]
    fn of_a_full_queue_the_address_with_the_most_makes_room() {
        let queue = Queue::new(6, 4);
        let crowd: Vec<Queued> = (0..4).map(|_| queue.enter(address(1)).unwrap()).collect();
        assert!(queue.enter(address(1)).is_none(), "an address has a part of it");
        let pair: Vec<Queued> = (0..2).map(|_| queue.enter(address(2)).unwrap()).collect();
        let single = queue.enter(address(3)).unwrap();
        assert_eq!((ended(&crowd), ended(&pair)), (vec![false, false, false, true], vec![false; 2]));
        let _another = queue.enter(address(3)).unwrap();
        assert_eq!((ended(&crowd), ended(&pair)), (vec![false, false, true, true], vec![false; 2]));
        assert!(queue.enter(address(3)).is_none(), "each has two");
        drop((crowd, pair));
        assert_eq!(queue.lock().count, 2, "those that made room do not count twice");
        drop(single);
        assert_eq!(queue.lock().ranks.len(), 1);
    }

    #[test]
    fn proxies_keep_half_of_it_and_find_room_where_an_address_has_several() {
        let queue = Queue::new(4, 3);
        let _proxied = queue.enter(None).unwrap();
        let direct: Vec<Queued> = (0..3).map(|_| queue.enter(address(1)).unwrap()).collect();
        let _more = queue.enter(None).unwrap();
        assert_eq!(ended(&direct), [false, false, true]);
        assert!(queue.enter(None).is_none());
        assert!(queue.enter(address(1)).is_none());
        drop(direct);
        let _third = queue.enter(None).unwrap();
        let fourth = queue.enter(None).unwrap();
        let _other = queue.enter(address(2)).unwrap();
        assert!(fourth.turn.ended.is_cancelled(), "proxies have had more than half");
        let _third_address = queue.enter(address(3)).unwrap();
        assert!(queue.enter(address(4)).is_none(), "they keep half");
    }

    #[test]
    fn nothing_is_kept_of_those_that_left() {
        let queue = Queue::new(9, 9);
        drop((queue.enter(None), queue.enter(address(1)), queue.enter(address(1))));
        let waiting = queue.lock();
        assert_eq!((waiting.count, waiting.by_address.len(), waiting.ranks.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn the_one_that_has_waited_for_longest_is_woken() {
        let queue = Queue::new(9, 9);
        let [first, second] = [queue.enter(address(1)).unwrap(), queue.enter(address(1)).unwrap()];
        queue.wake(IpAddr::from([192, 0, 2, 1]));
        queue.wake(IpAddr::from([192, 0, 2, 9]));
        first.turn.freed.notified().await;
        drop(first);
        queue.wake(IpAddr::from([192, 0, 2, 1]));
        second.turn.freed.notified().await;
    }
}
