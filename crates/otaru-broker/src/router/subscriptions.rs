//! Subscriptions of all sessions: filters without wildcards in a map, the others in a tree of their levels.

use std::collections::{BTreeMap, HashMap};

use super::ids::SessionId;
use crate::codec::topic;
use crate::version::Qos;

/// One session's subscription to one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) qos: Qos,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// Subscription identifier; 0 for none.
    pub(crate) identifier: u32,
}

type Subscribers = BTreeMap<SessionId, Subscription>;

/// A level of the tree, with those whose filter ends here.
#[derive(Debug, Default)]
struct Level {
    subscribers: Subscribers,
    below: HashMap<Box<str>, Level>,
}

/// Returns the bytes that a session's subscription counts for: the filter once in the session and once here, and what maps need
/// beside it, as if no other had it or a level of it. Maps of one entry take about 350 bytes for a session, and 500 for a level.
pub(super) fn cost(filter: &str) -> usize {
    let levels = if topic::has_wildcards(filter) { 1 + filter.matches('/').count() } else { 0 };
    384 + 2 * filter.len() + 512 * levels
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    exact: HashMap<Box<str>, Subscribers>,
    wildcards: Level,
}

impl Subscriptions {
    /// Keeps a subscription; returns whether the session had none to this filter.
    pub(super) fn insert(&mut self, filter: &str, session: SessionId, subscription: Subscription) -> bool {
        let subscribers = match topic::has_wildcards(filter) {
            true => &mut self.wildcards.at(filter).subscribers,
            false => self.exact.entry(filter.into()).or_default(),
        };
        subscribers.insert(session, subscription).is_none()
    }

    /// Forgets a subscription.
    pub(super) fn remove(&mut self, filter: &str, session: SessionId) {
        if topic::has_wildcards(filter) {
            self.wildcards.remove(&mut filter.split('/'), session);
        } else if let Some(subscribers) = self.exact.get_mut(filter) {
            subscribers.remove(&session);
            if subscribers.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// Collects the subscriptions whose filter matches a topic, those of a session side by side.
    pub(super) fn matching(&self, topic: &str, found: &mut Vec<(SessionId, Subscription)>) {
        found.clear();
        if let Some(subscribers) = self.exact.get(topic) {
            collect(subscribers, found);
        }
        let exact = found.len();
        self.wildcards.matching(topic, found);
        if found.len() > exact {
            found.sort_by_key(|(session, _)| *session);
        }
    }

    /// Tells whether nothing is kept.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

fn collect(subscribers: &Subscribers, found: &mut Vec<(SessionId, Subscription)>) {
    found.extend(subscribers.iter().map(|(session, subscription)| (*session, *subscription)));
}

impl Level {
    fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.below.is_empty()
    }

    fn at(&mut self, filter: &str) -> &mut Self {
        filter.split('/').fold(self, |level, name| level.below.entry(name.into()).or_default())
    }

    /// Removes a session below; levels that nobody needs any longer go. As deep as a filter has levels.
    fn remove<'f>(&mut self, rest: &mut impl Iterator<Item = &'f str>, session: SessionId) {
        let Some(name) = rest.next() else {
            self.subscribers.remove(&session);
            return;
        };
        let Some(level) = self.below.get_mut(name) else { return };
        level.remove(rest, session);
        if level.is_empty() {
            self.below.remove(name);
        }
    }

    fn matching(&self, topic: &str, found: &mut Vec<(SessionId, Subscription)>) {
        // Wildcards at the beginning match nothing that begins with `$`.
        let hidden = topic.starts_with('$');
        let mut open = vec![self];
        let mut next = Vec::new();
        for (depth, name) in topic.split('/').enumerate() {
            for level in open.drain(..) {
                if let Some(exact) = level.below.get(name) {
                    next.push(exact);
                }
                if depth == 0 && hidden {
                    continue;
                }
                if let Some(any) = level.below.get("+") {
                    next.push(any);
                }
                level.rest(found);
            }
            std::mem::swap(&mut open, &mut next);
        }
        for level in open {
            collect(&level.subscribers, found);
            level.rest(found);
        }
    }

    /// Collects those who want all below here.
    fn rest(&self, found: &mut Vec<(SessionId, Subscription)>) {
        if let Some(all) = self.below.get("#") {
            collect(&all.subscribers, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Subscription =
        Subscription { qos: Qos::Zero, no_local: false, retain_as_published: false, identifier: 0 };

    #[test]
    fn the_tree_matches_as_the_standard_says() {
        let filters =
            ["#", "+", "a/#", "a/+", "+/b", "a", "a/b", "/#", "+/+", "$SYS/#", "a/b/#", "a//b", "+/+/+"];
        let mut all = Subscriptions::default();
        for (number, filter) in filters.iter().enumerate() {
            assert!(all.insert(filter, SessionId(number as u64), PLAIN));
            assert!(!all.insert(filter, SessionId(number as u64), PLAIN));
        }
        for topic in ["a", "a/b", "a/b/c", "/", "/b", "$SYS", "$SYS/a", "b", "a//b", "x/y/z/w"] {
            let mut found = Vec::new();
            all.matching(topic, &mut found);
            let found: Vec<_> = found.iter().map(|(session, _)| filters[session.0 as usize]).collect();
            let wanted: Vec<_> =
                filters.iter().copied().filter(|filter| topic::matches(filter, topic)).collect();
            assert_eq!(found, wanted, "{topic}");
        }
        for (number, filter) in filters.iter().enumerate() {
            all.remove(filter, SessionId(number as u64));
            all.remove("not/there/+", SessionId(number as u64));
        }
        assert!(all.is_empty(), "{all:?}");
    }
}
