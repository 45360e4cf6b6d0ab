//! Retained messages, in the order of their topics: one is looked up by its topic, a filter with wildcards walks those that begin
//! as it does, a piece at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::account::AccountId;
use super::message::Message;
use crate::codec::topic;

/// A retained message and whoever it is counted for.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) message: Arc<Message>,
    pub(super) owner: AccountId,
}

/// All retained messages.
#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: BTreeMap<Arc<str>, Entry>,
}

/// A walk through the retained messages that a filter matches.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) filter: Arc<str>,
    /// Topic that it came to.
    last: Option<Arc<str>>,
}

/// Next step of a [`Walk`].
#[derive(Debug)]
pub(super) enum Step {
    Found(Arc<Message>),
    /// So far none; it goes on later.
    Pause,
    Done,
}

impl Walk {
    pub(super) fn new(filter: Arc<str>) -> Self {
        Self { filter, last: None }
    }

    /// Returns the topic that it came to.
    pub(super) fn place(&self) -> Option<Arc<str>> {
        self.last.clone()
    }

    /// Goes back to a topic that it came to before.
    pub(super) fn go_back(&mut self, place: Option<Arc<str>>) {
        self.last = place;
    }

    /// Returns the beginning that all matching topics have, up to the level with the first wildcard.
    fn prefix(&self) -> &str {
        let wildcard = self.filter.find(['+', '#']).unwrap_or(self.filter.len());
        // `a/#` matches `a`, too.
        self.filter.get(..wildcard).unwrap_or_default().trim_end_matches('/')
    }
}

impl Retained {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Entry> {
        self.messages.get(topic)
    }

    /// Puts a message in the place of the topic's last, which is returned.
    pub(super) fn put(&mut self, message: Arc<Message>, owner: AccountId) -> Option<Entry> {
        self.messages.insert(message.topic.clone(), Entry { message, owner })
    }

    pub(super) fn remove(&mut self, topic: &str) -> Option<Entry> {
        self.messages.remove(topic)
    }

    /// Returns the topics that begin so.
    pub(super) fn topics_under(&self, prefix: &str) -> Vec<Arc<str>> {
        self.range(Bound::Included(prefix))
            .map_while(|(topic, _)| topic.starts_with(prefix).then(|| topic.clone()))
            .collect()
    }

    fn range(&self, from: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Entry)> + use<'_> {
        self.messages.range::<str, _>((from, Bound::Unbounded))
    }

    /// Goes on with a walk, and takes the topics that it looks at from `looks`. It pauses when none are left.
    pub(super) fn step(&self, walk: &mut Walk, looks: &mut usize) -> Step {
        if *looks == 0 {
            return Step::Pause;
        }
        if !topic::has_wildcards(&walk.filter) {
            *looks -= 1;
            let found = if walk.last.is_none() { self.messages.get(&walk.filter) } else { None };
            walk.last = Some(walk.filter.clone());
            return found.map_or(Step::Done, |entry| Step::Found(entry.message.clone()));
        }
        let last = walk.last.clone();
        let from = match &last {
            Some(last) => Bound::Excluded(&**last),
            None => Bound::Included(walk.prefix()),
        };
        let (mut reached, mut found) = (None, None);
        for (topic, entry) in self.range(from).take(*looks) {
            *looks -= 1;
            if !topic.starts_with(walk.prefix()) {
                return Step::Done;
            }
            reached = Some(topic.clone());
            if topic::matches(&walk.filter, topic) {
                found = Some(entry.message.clone());
                break;
            }
        }
        match (reached, found) {
            (None, _) => Step::Done,
            (reached, None) => {
                walk.last = reached;
                Step::Pause
            }
            (reached, Some(message)) => {
                walk.last = reached;
                Step::Found(message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::ids::SessionId;
    use crate::version::Qos;

    const STEP: usize = 512;

    fn message(topic: &str) -> Arc<Message> {
        Arc::new(Message {
            from: SessionId(0),
            topic: topic.into(),
            payload: "x".into(),
            properties: Vec::new(),
            qos: Qos::Zero,
            retain: true,
            expires: None,
        })
    }

    fn found(retained: &Retained, filter: &str) -> Vec<String> {
        let (mut walk, mut found) = (Walk::new(filter.into()), Vec::new());
        loop {
            match retained.step(&mut walk, &mut STEP.clone()) {
                Step::Found(message) => found.push(message.topic.to_string()),
                Step::Pause => {}
                Step::Done => return found,
            }
        }
    }

    #[test]
    fn walks_find_what_the_filter_matches() {
        let mut retained = Retained::default();
        let topics = ["$SYS/a", "a", "a/b", "a/b/c", "a-b", "a/c", "b", "/", "/a"];
        for topic in topics {
            retained.put(message(topic), AccountId::default());
        }
        for filter in ["#", "+", "a/#", "a/+", "+/b", "a", "a/b", "/#", "+/+", "x/#", "$SYS/#", "a/b/#", "x"]
        {
            let mut wanted: Vec<_> = topics
                .iter()
                .filter(|topic| topic::matches(filter, topic))
                .map(|topic| topic.to_string())
                .collect();
            wanted.sort();
            assert_eq!(found(&retained, filter), wanted, "{filter}");
        }
        assert_eq!(retained.topics_under("a/"), ["a/b".into(), "a/b/c".into(), "a/c".into()]);
    }

    #[test]
    fn a_long_walk_pauses() {
        let mut retained = Retained::default();
        for number in 0..3 * STEP {
            retained.put(message(&format!("a/{number:05}/x")), AccountId::default());
        }
        let mut walk = Walk::new("a/+/y".into());
        let mut looks = STEP;
        assert!(matches!(retained.step(&mut walk, &mut looks), Step::Pause) && looks == 0);
        assert!(matches!(retained.step(&mut walk, &mut looks), Step::Pause));
        assert!(found(&retained, "a/+/y").is_empty());
        assert_eq!(found(&retained, "a/+/x").len(), 3 * STEP);
    }
}
