//! Work that is done in pieces, between which others have the router: messages on their way to their receivers, in the order in which they
//! came, and then wills.

use std::time::Instant;

use super::state::{Due, Router};
use crate::policy::Policy;

/// Receivers that have their copies while all others wait.
const RECEIVERS: usize = 4096;
/// Receivers that a will counts for beside its own.
const WILL: usize = 16;

impl<P: Policy> Router<P> {
    /// Goes on with messages that are on their way, then with the wills whose time has come, and with those that come of them: one after
    /// the other, since a will that ends a connection which has a will itself must not take a step deeper for each of them. Says whether
    /// there is more, which is due at once. Whoever publishes is to ask until there is none before its next message, so that no more are
    /// on their way than publish at the same moment.
    pub(crate) fn work_off(&mut self, now: Instant) -> bool {
        let mut left = RECEIVERS;
        while left > 0 {
            if !self.underway.is_empty() {
                left = left.saturating_sub(self.deliver(left, now));
            } else if let Some(next) = self.wills.pop_front() {
                left = left.saturating_sub(WILL);
                self.send_will(&next, now);
                self.accounts.has_sent_will(next.account);
                self.watch_account(next.account, now);
            } else {
                break;
            }
        }
        let has_more = self.has_backlog();
        if has_more && !std::mem::replace(&mut self.is_backlog_due, true) {
            self.due.insert((now, Due::Backlog));
        }
        has_more
    }

    /// Tells whether there is something to work off.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.underway.is_empty() || !self.wills.is_empty()
    }

    /// Gives the first message that is on its way to so many receivers. Returns how many there were.
    fn deliver(&mut self, most: usize, now: Instant) -> usize {
        let Some(mut routing) = self.underway.pop_front() else { return 0 };
        self.ended_for = std::mem::take(&mut routing.ended_for);
        let rest = routing.receivers.get(routing.done..).unwrap_or_default();
        let mut done = 0;
        for of_session in rest.chunk_by(|(one, _), (other, _)| one == other) {
            if done >= most {
                break;
            }
            self.offer(&routing.message, of_session, now);
            done += of_session.len();
        }
        routing.done += done;
        if routing.done < routing.receivers.len() {
            routing.ended_for = std::mem::take(&mut self.ended_for);
            self.underway.push_front(routing);
        } else {
            self.receivers = routing.receivers;
        }
        done
    }
}
