//! Ends from outside: of identities, of all, and of what is retained.

use std::time::Instant;

use super::account::Resource;
use super::due::Ending;
use super::ids::SessionId;
use super::login::Ended;
use super::state::{Due, Router};
use crate::policy::Policy;
use crate::reason::Reason;

impl<P: Policy> Router<P> {
    /// Keeps out the logins under way of all identities that `ended` describes.
    pub(crate) fn bar(&mut self, ended: Ended<P::Identity>, reason: Reason) {
        self.logins.end(ended, reason);
    }

    /// Returns the identities that `ended` describes and that hold something.
    pub(crate) fn holders(&self, ended: &Ended<P::Identity>) -> Vec<P::Identity> {
        self.accounts.identities(|identity| ended(identity))
    }

    /// Ends the connections and sessions of some identities. Returns how many connections it ended.
    pub(crate) fn end(
        &mut self,
        ended: &[P::Identity],
        reason: Reason,
        with_wills: bool,
        now: Instant,
    ) -> usize {
        let accounts = ended.iter().filter_map(|identity| self.accounts.find(identity));
        let sessions: Vec<_> =
            accounts.flat_map(|account| self.accounts.sessions(account).iter().copied()).collect();
        let mut connections = 0;
        for id in sessions {
            let connection = self.sessions.get(&id).and_then(|session| session.connection.as_ref());
            if let Some(connection) = connection {
                connection.signal.end(reason);
                connections += 1;
            }
            let ending =
                if with_wills && self.speaks_when_ended(id) { Ending::WithWill } else { Ending::Silently };
            self.remove_session(id, ending, now);
        }
        self.work_off(now);
        connections
    }

    /// Tells whether the will of a session may be published although its identity is ended.
    fn speaks_when_ended(&self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let identity = self.accounts.identity(session.account);
        identity
            .zip(session.will.as_ref())
            .is_some_and(|(identity, will)| self.policy.may_publish_when_ended(&identity, &will.topic))
    }

    /// Ends one connection, as if it were lost. Its will is put behind those that are to be published.
    pub(super) fn end_connection(&mut self, id: SessionId, reason: Reason, now: Instant) {
        if let Some(connection) = self.sessions.get(&id).and_then(|session| session.connection.as_ref()) {
            connection.signal.end(reason);
            self.detach(id, now);
        }
    }

    /// Forgets the retained messages whose topics begin so. Returns how many there were.
    pub(crate) fn forget_retained(&mut self, prefix: &str, now: Instant) -> usize {
        let topics = self.retained.topics_under(prefix);
        for topic in &topics {
            self.forget_topic(topic, now);
        }
        topics.len()
    }

    /// Forgets one retained message.
    pub(super) fn forget_topic(&mut self, topic: &str, now: Instant) {
        let Some(entry) = self.retained.remove(topic) else { return };
        self.accounts.release(entry.owner, Resource::Retained, entry.message.cost());
        if let Some(at) = entry.message.expires {
            self.due.remove(&(at, Due::Retained(entry.message.topic.clone())));
        }
        self.watch_account(entry.owner, now);
    }
}
