//! Subscriptions, which outlive connections, and who gets a message.

use std::sync::Arc;

use super::message::Message;
use crate::codec::topic;

/// Taker of messages; it must not wait.
pub(super) type Sink = Arc<dyn Fn(Message) + Send + Sync>;

/// Everything that is subscribed to, each filter once.
#[derive(Default)]
pub(super) struct Subscriptions(Vec<(String, Sink)>);

impl Subscriptions {
    /// Adds a filter, or gives one that is there another sink.
    pub(super) fn add(&mut self, filter: &str, sink: Sink) {
        match self.0.iter_mut().find(|(known, _)| known == filter) {
            Some((_, known)) => *known = sink,
            None => self.0.push((filter.to_owned(), sink)),
        }
    }

    /// Removes a filter, which the broker does not grant.
    pub(super) fn remove(&mut self, filter: &str) {
        self.0.retain(|(known, _)| known != filter);
    }

    /// Lists the filters.
    pub(super) fn filters(&self) -> Vec<String> {
        self.0.iter().map(|(filter, _)| filter.clone()).collect()
    }

    /// Gives a message to all whose filter it matches.
    pub(super) fn deliver(&self, message: Message) {
        let matching = self.0.iter().filter(|(filter, _)| topic::matches(filter, &message.topic));
        let mut sinks: Vec<&Sink> = matching.map(|(_, sink)| sink).collect();
        // The last one needs no copy.
        let last = sinks.pop();
        sinks.iter().for_each(|sink| sink(message.clone()));
        if let Some(sink) = last {
            sink(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn messages_go_to_all_that_match() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = |name: &'static str| -> Sink {
            let heard = Arc::clone(&heard);
            Arc::new(move |message: Message| heard.lock().unwrap().push((name, message.topic)))
        };
        let mut subscriptions = Subscriptions::default();
        subscriptions.add("a/+", sink("replaced"));
        subscriptions.add("#", sink("all"));
        subscriptions.add("a/+", sink("one"));
        subscriptions.add("b", sink("removed"));
        subscriptions.remove("b");
        assert_eq!(subscriptions.filters(), ["a/+", "#"]);
        for topic in ["a/b", "b"] {
            subscriptions.deliver(Message { topic: topic.into(), payload: Vec::new(), retained: false });
        }
        let wanted =
            [("one", "a/b"), ("all", "a/b"), ("all", "b")].map(|(name, topic)| (name, topic.to_owned()));
        assert_eq!(*heard.lock().unwrap(), wanted);
    }
}
