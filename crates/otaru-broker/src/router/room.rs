//! Room for messages where a group's or everybody's is used up: the absent session that holds the most makes it.

use std::time::Instant;

use super::absent::Place;
use super::account::{AccountId, Full};
use super::due::Ending;
use super::ids::SessionId;
use super::state::Router;
use crate::policy::Policy;

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
