//! Room for messages where what an identity, its group or all may have is used up: whoever holds the most makes it.

use std::time::Instant;

use super::account::{ALL, AccountId, Full};
use super::due::Ending;
use super::ids::SessionId;
use super::state::Router;
use crate::policy::Policy;
use crate::reason::Reason;

impl<P: Policy> Router<P> {
    /// Ends a session so that another has room for a message, if that is enough at every level that is full. At the bound of an identity
    /// it is one of its own; at that of its group or of all, one of the identity that holds the most there. Nobody is ended for a larger
    /// one, and for one message at most one session of an identity for that identity itself, and one for others. Says whether it did. A
    /// will is put behind those that are to be published.
    pub(super) fn make_queue_room(
        &mut self,
        (wanting, account): (SessionId, AccountId),
        full: Full,
        wanted: usize,
        now: Instant,
    ) -> bool {
        let level = self.accounts.at_level(account, full);
        let holder = if full == Full::Own { Some(account) } else { self.accounts.largest(level) };
        let Some(holder) = holder else { return false };
        let once = if holder == account { account } else { ALL };
        if self.ended_for.contains(&once) {
            return false;
        }
        let found = match holder == account {
            true => self.largest_own(wanting, account),
            false => self
                .largest_of(holder)
                .filter(|_| self.accounts.queued_excess(holder) > self.accounts.queued_excess(account)),
        };
        let Some((bytes, id)) = found else { return false };
        if !self.accounts.would_fit(account, wanted, (holder, bytes)) {
            return false;
        }
        self.ended_for.insert(once);
        if let Some(connection) = self.sessions.get(&id).and_then(|session| session.connection.as_ref()) {
            connection.signal.end(Reason::QuotaExceeded);
        }
        self.remove_session(id, Ending::WithWill, now);
        true
    }

    /// Returns the session of an identity for which the most waits, and how much that is.
    fn largest_of(&self, account: AccountId) -> Option<(usize, SessionId)> {
        let sessions = self.accounts.sessions(account).iter();
        sessions.filter_map(|id| Some((self.sessions.get(id)?.charged, *id))).max()
    }

    /// Returns the session that makes room for another one of its identity, and how much: the largest one without a connection, or else
    /// the largest that is larger than the other.
    fn largest_own(&self, wanting: SessionId, account: AccountId) -> Option<(usize, SessionId)> {
        let wants = self.sessions.get(&wanting)?;
        let others = self.accounts.sessions(account).iter().filter(|id| **id != wanting);
        let mut others: Vec<_> = others
            .filter_map(|id| {
                let session = self.sessions.get(id)?;
                Some((session.connection.is_none(), session.charged, *id))
            })
            .filter(|(is_absent, bytes, _)| {
                *bytes > wants.charged || *bytes > 0 && *is_absent && wants.connection.is_some()
            })
            .collect();
        others.sort_unstable();
        others.pop().map(|(_, bytes, id)| (bytes, id))
    }
}
