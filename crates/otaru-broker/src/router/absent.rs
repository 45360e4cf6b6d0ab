//! Sessions without a connection, by the bytes of messages that wait for them: who makes room when a group's or everybody's is used up.

use std::collections::BTreeSet;
use std::time::Instant;

use super::account::{ALL, AccountId, Full};
use super::due::Ending;
use super::ids::SessionId;
use super::state::Router;
use crate::policy::Policy;

/// Account above a session's, and the bytes that wait for the session.
pub(super) type Place = (AccountId, usize);

/// Sessions without a connection that hold messages, for each account that is not an identity's.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeSet<(AccountId, usize, SessionId)>);

impl Absent {
    /// Moves a session from one place to another.
    fn renew(&mut self, id: SessionId, before: Option<Place>, after: Option<Place>) {
        for ((account, bytes), is_new) in
            before.map(|place| (place, false)).into_iter().chain(after.map(|place| (place, true)))
        {
            for account in [account, ALL] {
                match is_new {
                    true => self.0.insert((account, bytes, id)),
                    false => self.0.remove(&(account, bytes, id)),
                };
            }
        }
    }

    /// Returns the session of an account that holds the most.
    fn largest(&self, account: AccountId) -> Option<(usize, SessionId)> {
        let all = (account, 0, SessionId(0))..=(account, usize::MAX, SessionId(u64::MAX));
        self.0.range(all).next_back().map(|(_, bytes, id)| (*bytes, *id))
    }

    /// Tells whether it knows of nobody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<P: Policy> Router<P> {
    /// Notes what waits for a session, if it has no connection.
    pub(super) fn note_absence(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let is_absent = session.connection.is_none() && session.charged > 0;
        let place = is_absent.then(|| (self.accounts.parent(session.account), session.charged));
        let before = std::mem::replace(&mut session.absent, place);
        if before != place {
            self.absent.renew(id, before, place);
        }
    }

    /// Forgets the place of a session that is no more.
    pub(super) fn forget_absence(&mut self, id: SessionId, place: Option<Place>) {
        self.absent.renew(id, place, None);
    }

    /// Ends the absent session that holds the most of what a group or all together have used up, if that is as much as is wanted and
    /// another than the one that wants it. Says whether it did. A will is put behind those that are to be published.
    pub(super) fn end_largest_absent(
        &mut self,
        (wanting, account): (SessionId, AccountId),
        full: Full,
        wanted: usize,
        now: Instant,
    ) -> bool {
        let largest = self.absent.largest(self.accounts.at_level(account, full));
        let Some((_, id)) = largest.filter(|(bytes, id)| *bytes >= wanted && *id != wanting) else {
            return false;
        };
        self.remove_session(id, Ending::WithWill, now);
        true
    }
}
