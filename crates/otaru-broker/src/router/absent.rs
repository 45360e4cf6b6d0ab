//! Sessions without a connection, by the bytes of messages that wait for them.

use std::collections::BTreeSet;

use super::account::{ALL, AccountId};
use super::ids::SessionId;

/// Account above a session's, and the bytes that wait for the session.
pub(super) type Place = (AccountId, usize);

/// Sessions without a connection that hold messages, for each account that is not an identity's.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeSet<(AccountId, usize, SessionId)>);

impl Absent {
    /// Moves a session from one place to another.
    pub(super) fn renew(&mut self, id: SessionId, before: Option<Place>, after: Option<Place>) {
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
    pub(super) fn largest(&self, account: AccountId) -> Option<(usize, SessionId)> {
        let all = (account, 0, SessionId(0))..=(account, usize::MAX, SessionId(u64::MAX));
        self.0.range(all).next_back().map(|(_, bytes, id)| (*bytes, *id))
    }

    /// Tells whether it knows of nobody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
