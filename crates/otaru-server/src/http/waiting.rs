//! Connections whose peers are waited for: who is waited for longest makes room when there is none for others.
//!
//! A peer is waited for as long as its connection has nothing to answer, while it takes nothing of an answer, and while it sends nothing of
//! a body. Whoever uses a connection is hardly ever waited for; whoever only has it always is. So a connection is ended for others'
//! sake only after a while, those of strangers first, and only where there is no other room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::counted::AddressCount;

/// Of how many connections one is ended at once, where there are many: looking for one costs as much as looking for several.
const PART: usize = 64;
/// The most that are.
const AT_ONCE: usize = 16;
/// Of how many it is noted that nobody there is waited for long enough.
const NOTED: usize = 256;
/// Factor of patience with somebody who logged in.
const FOR_KNOWN: u32 = 10;
/// Factor of patience with a reader who takes an answer, if slowly.
const FOR_READER: u32 = 4;

/// One connection, and since when its peer is waited for.
#[derive(Debug)]
pub(super) struct Wait {
    began: Instant,
    /// Milliseconds after that, and one; 0 while the peer is not waited for.
    since: AtomicU64,
    /// Whether a request is being answered.
    answers: AtomicBool,
    known: AtomicBool,
    /// Whether some of this answer was taken after others had to wait.
    reads: AtomicBool,
    end: CancellationToken,
    /// Address of the peer, where that counts.
    pub(super) origin: Option<IpAddr>,
    stranger: AddressCount,
    /// Whether its place is one of the reserve.
    reserved: AtomicBool,
    /// The place that it holds.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

/// Connections among which one is ended to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Among {
    /// Whoever has a place that is for everybody.
    Everybody,
    /// Whoever has a place of the reserve.
    Reserve,
    /// Whoever comes from this address and has not logged in.
    Address(IpAddr),
}

impl Wait {
    /// The peer is waited for, if it is not already.
    pub(super) fn waits(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The peer did what it was waited for.
    pub(super) fn moves(&self) {
        self.since.store(0, Ordering::Relaxed);
        if !self.answers.load(Ordering::Relaxed) {
            self.waits();
        }
    }

    /// A request came; until what is returned is dropped, it is being answered. Nobody has logged in with it yet.
    pub(super) fn answers(self: &Arc<Self>) -> Answering {
        self.answers.store(true, Ordering::Relaxed);
        self.moves();
        self.reads.store(false, Ordering::Relaxed);
        if self.origin.is_none() {
            // Of a proxy, whose next request may be anybody's.
            self.known.store(false, Ordering::Relaxed);
        }
        Answering(Arc::clone(self))
    }

    /// Whoever is there has logged in.
    pub(super) fn is_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// The peer took some of an answer that waited for it.
    pub(super) fn takes(&self) {
        self.reads.store(true, Ordering::Relaxed);
        self.moves();
    }

    /// Some of a body came. Of a stranger it must come whole: a byte now and then would keep the place for ever.
    fn sends(&self) {
        if self.known.load(Ordering::Relaxed) {
            self.moves();
        }
    }

    /// It has a place for everybody from now on; what is returned, it had before.
    pub(super) fn leaves_reserve(&self, permit: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let mut place = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        self.reserved.store(false, Ordering::Relaxed);
        place.replace(permit)
    }

    fn is_one(&self, among: Among) -> bool {
        match among {
            Among::Everybody => !self.reserved.load(Ordering::Relaxed),
            Among::Reserve => self.reserved.load(Ordering::Relaxed),
            Among::Address(_) if self.known.load(Ordering::Relaxed) => false,
            Among::Address(address) => self.origin == Some(address),
        }
    }

    /// Resolves when the connection shall make room for others.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Returns the time that its peer has been waited for, as a stranger would be.
    fn waited(&self, now: Instant) -> Duration {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 || self.end.is_cancelled() {
            return Duration::ZERO;
        }
        let waited = now.saturating_duration_since(self.began + Duration::from_millis(since - 1));
        match (self.known.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed)) {
            (true, _) => waited / FOR_KNOWN,
            (false, true) => waited / FOR_READER,
            (false, false) => waited,
        }
    }

    /// Ends it; what it had is free at once.
    fn make_room(&self) -> Option<OwnedSemaphorePermit> {
        self.end.cancel();
        self.stranger.release();
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Wait>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answers.store(false, Ordering::Relaxed);
        self.0.waits();
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    all: HashMap<u64, Arc<Wait>>,
    next: u64,
    /// Until when nobody can have been waited for long enough: looking again would find nothing.
    nobody_until: HashMap<Among, Instant>,
}

/// A connection that is listed until this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    waits: Arc<Waits>,
    number: u64,
    pub(super) wait: Arc<Wait>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.waits.lock().all.remove(&self.number);
    }
}

impl Waits {
    /// Lists a connection; its peer is waited for from now on.
    pub(super) fn list(
        self: &Arc<Self>,
        origin: Option<IpAddr>,
        stranger: AddressCount,
        permit: OwnedSemaphorePermit,
        reserved: bool,
    ) -> Entry {
        let wait = Arc::new(Wait {
            began: Instant::now(),
            since: AtomicU64::new(1),
            answers: AtomicBool::new(false),
            known: AtomicBool::new(false),
            reads: AtomicBool::new(false),
            end: CancellationToken::new(),
            origin,
            stranger,
            reserved: AtomicBool::new(reserved),
            permit: Mutex::new(Some(permit)),
        });
        let mut listed = self.lock();
        let number = listed.next;
        listed.next += 1;
        listed.all.insert(number, Arc::clone(&wait));
        Entry { waits: Arc::clone(self), number, wait }
    }

    /// Ends connections that are waited for longest, and at least for `patience`, if there are such. The place of one of them.
    pub(super) fn make_room(&self, among: Among, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let now = Instant::now();
        let mut listed = self.lock();
        if listed.nobody_until.get(&among).is_some_and(|until| now < *until) {
            return None;
        }
        let those = listed.all.values().filter(|wait| wait.is_one(among));
        let mut longest = Duration::ZERO;
        let waited = those.map(|wait| (wait.waited(now), wait));
        let waited = waited.inspect(|(waited, _)| longest = longest.max(*waited));
        let mut waited: Vec<(Duration, &Arc<Wait>)> =
            waited.filter(|(waited, _)| *waited >= patience).collect();
        if waited.is_empty() {
            listed.note(among, now + patience.saturating_sub(longest));
            return None;
        }
        let count = match among {
            // Its own others pay for each of these.
            Among::Address(_) => 1,
            Among::Everybody | Among::Reserve => (listed.all.len() / PART).clamp(1, AT_ONCE),
        };
        if waited.len() > count {
            waited.select_nth_unstable_by(count, |(one, _), (other, _)| other.cmp(one));
            waited.truncate(count);
        }
        let mut permits: Vec<_> = waited.into_iter().filter_map(|(_, wait)| wait.make_room()).collect();
        permits.pop()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn note(&mut self, among: Among, until: Instant) {
        if self.nobody_until.len() >= NOTED {
            self.nobody_until.clear();
        }
        self.nobody_until.insert(among, until);
    }
}

/// A request's body, whose sender is waited for while nothing comes.
pub(super) fn watched(body: Body, wait: Arc<Wait>) -> Body {
    match body.is_end_stream() {
        true => body,
        false => Body::new(Watched { body, wait }),
    }
}

struct Watched {
    body: Body,
    wait: Arc<Wait>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => self.wait.waits(),
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => self.wait.sends(),
            Poll::Ready(_) => self.wait.moves(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(40);

    fn listed(waits: &Arc<Waits>, last: u8) -> Entry {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        waits.list(Some(IpAddr::from([192, 0, 2, last])), AddressCount::default(), permit, false)
    }

    fn ended(entries: &[&Entry]) -> Vec<bool> {
        entries.iter().map(|entry| entry.wait.end.is_cancelled()).collect()
    }

    #[test]
    fn who_is_waited_for_makes_room_and_who_is_answered_does_not() {
        let waits = Arc::new(Waits::default());
        let (idle, busy, known) = (listed(&waits, 1), listed(&waits, 2), listed(&waits, 3));
        let answering = busy.wait.answers();
        known.wait.is_known();
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&idle, &busy, &known]), [false; 3], "nobody is waited for that long");
        std::thread::sleep(PATIENCE);
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&idle, &busy, &known]), [true, false, false]);
        busy.wait.waits();
        drop(answering);
        std::thread::sleep(PATIENCE * FOR_KNOWN);
        waits.make_room(Among::Everybody, PATIENCE);
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&busy, &known]), [true, true], "also who logged in, in the end");
    }

    #[test]
    fn an_address_makes_room_for_itself_only() {
        let waits = Arc::new(Waits::default());
        let (mine, known, other) = (listed(&waits, 1), listed(&waits, 1), listed(&waits, 2));
        known.wait.is_known();
        std::thread::sleep(PATIENCE * 11);
        waits.make_room(Among::Address(mine.wait.origin.unwrap()), PATIENCE);
        assert_eq!(ended(&[&mine, &known, &other]), [true, false, false]);
    }

    #[test]
    fn who_reads_slowly_is_waited_for_longer_than_who_reads_nothing() {
        let waits = Arc::new(Waits::default());
        let (silent, slow) = (listed(&waits, 1), listed(&waits, 2));
        let answering = [&silent, &slow].map(|entry| entry.wait.answers());
        slow.wait.waits();
        slow.wait.takes();
        [&silent, &slow].iter().for_each(|entry| entry.wait.waits());
        std::thread::sleep(PATIENCE);
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&silent, &slow]), [true, false]);
        std::thread::sleep(PATIENCE * FOR_READER);
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&slow]), [true], "who stops is ended, too");
        drop(answering);
    }

    #[test]
    fn a_strangers_body_comes_whole() {
        let waits = Arc::new(Waits::default());
        let (stranger, known) = (listed(&waits, 1), listed(&waits, 2));
        known.wait.is_known();
        let answering = [stranger.wait.answers(), known.wait.answers()];
        [&stranger, &known].iter().for_each(|entry| entry.wait.waits());
        std::thread::sleep(PATIENCE);
        [&stranger, &known].iter().for_each(|entry| entry.wait.sends());
        waits.make_room(Among::Everybody, PATIENCE);
        assert_eq!(ended(&[&stranger, &known]), [true, false], "a byte is no headway");
        drop(answering);
    }

    #[test]
    fn those_that_are_waited_for_longest_go_first() {
        let waits = Arc::new(Waits::default());
        let old: Vec<Entry> = (0..3).map(|_| listed(&waits, 1)).collect();
        std::thread::sleep(PATIENCE);
        let young: Vec<Entry> = (0..3).map(|_| listed(&waits, 2)).collect();
        std::thread::sleep(PATIENCE);
        let room: Vec<_> = (0..3).map(|_| waits.make_room(Among::Everybody, PATIENCE)).collect();
        assert!(room.iter().all(Option::is_some), "each gives its place away");
        assert!(old.iter().all(|entry| entry.wait.end.is_cancelled()));
        assert!(!young.iter().any(|entry| entry.wait.end.is_cancelled()));
        drop((old, young));
        assert!(waits.lock().all.is_empty(), "nothing is kept of those that ended");
    }
}
