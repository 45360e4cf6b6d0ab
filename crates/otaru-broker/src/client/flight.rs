//! Packets under way: sent, and not answered by the broker yet. Sans-I/O.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Answer to whoever asked: nothing, or why the broker does not do it. Dropped, it says that the connection was lost meanwhile.
pub(super) type Reply = oneshot::Sender<Result<(), String>>;

/// Kind of what waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message.
    Publish,
    /// A subscription with this filter.
    Subscribe(String),
}

/// Something that waits for its answer.
pub(super) struct Waiting {
    pub(super) kind: Kind,
    /// Nobody, for subscriptions that are made again.
    pub(super) reply: Option<Reply>,
    since: Instant,
}

/// All that waits, by its packet identifier.
#[derive(Default)]
pub(super) struct InFlight {
    waiting: HashMap<u16, Waiting>,
    publishes: usize,
    last: u16,
}

impl InFlight {
    /// Returns an identifier that nobody has, unless all are in use.
    pub(super) fn add(&mut self, kind: Kind, reply: Option<Reply>, since: Instant) -> Option<u16> {
        let ids = (self.last..=u16::MAX).chain(0..self.last);
        let id = ids.map(|id| id.wrapping_add(1)).find(|id| *id != 0 && !self.waiting.contains_key(id))?;
        self.last = id;
        self.publishes += usize::from(kind == Kind::Publish);
        self.waiting.insert(id, Waiting { kind, reply, since });
        Some(id)
    }

    /// Takes what an answer is for.
    pub(super) fn take(&mut self, id: u16) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.publishes -= usize::from(waiting.kind == Kind::Publish);
        Some(waiting)
    }

    /// Returns the number of messages under way.
    pub(super) fn publishes(&self) -> usize {
        self.publishes
    }

    /// Tells whether a subscription waits.
    pub(super) fn has_subscriptions(&self) -> bool {
        self.publishes < self.waiting.len()
    }

    /// Returns since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_come_round_and_are_never_used_twice() {
        let (mut flight, now) = (InFlight::default(), Instant::now());
        let add = |flight: &mut InFlight| flight.add(Kind::Publish, None, now);
        for id in 1..=u16::MAX {
            assert_eq!(add(&mut flight), Some(id));
        }
        assert_eq!(add(&mut flight), None, "all are in use");
        assert_eq!(flight.publishes(), usize::from(u16::MAX));
        for id in [5, 9] {
            assert!(flight.take(id).is_some() && flight.take(id).is_none());
        }
        assert_eq!((add(&mut flight), add(&mut flight), add(&mut flight)), (Some(5), Some(9), None));
    }

    #[test]
    fn kinds_are_counted_apart() {
        let (mut flight, now) = (InFlight::default(), Instant::now());
        let message = flight.add(Kind::Publish, None, now).unwrap();
        assert!(!flight.has_subscriptions());
        let filter = flight.add(Kind::Subscribe("#".into()), None, now).unwrap();
        assert!(flight.has_subscriptions() && flight.publishes() == 1);
        assert_eq!(flight.take(filter).unwrap().kind, Kind::Subscribe("#".into()));
        assert!(flight.take(message).is_some() && flight.oldest().is_none() && flight.publishes() == 0);
    }
}
