//! Things that are due: wills, ends of sessions and of retained messages, accounts that hold nothing.

use std::time::Instant;

use super::account::Resource;
use super::ids::SessionId;
use super::message::WillToSend;
use super::state::{Due, Router};
use crate::policy::Policy;

/// Manner in which a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A will that waits is published.
    WithWill,
    /// A will that waits is forgotten.
    Silently,
}

/// Things that are done while all others wait.
const AT_ONCE: usize = 256;

impl<P: Policy> Router<P> {
    /// Does what is due, as much as all others may wait for; returns when something is due next, which may have passed already.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        for _ in 0..AT_ONCE {
            if self.due.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            match self.due.pop_first() {
                Some((_, due)) => self.do_due(due, now),
                None => break,
            }
        }
        self.work_off(now);
        self.next_due()
    }

    /// Does one thing that is due. Wills that come of it are put behind those that are to be published.
    fn do_due(&mut self, due: Due, now: Instant) {
        match due {
            Due::Will(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.will_due = None;
                }
                self.release_will(id);
            }
            Due::Session(id) => self.remove_session(id, Ending::WithWill, now),
            Due::Room(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.is_retrying = false;
                    session.wake();
                }
            }
            Due::Retained(topic) => self.forget_topic(&topic, now),
            Due::Account(id) => {
                if let Some(next) = self.accounts.close_if_idle(id, Some(now)) {
                    self.watch_account(next, now);
                }
            }
            Due::Backlog => self.is_backlog_due = false,
        }
    }

    /// Returns when something is due next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes back what is due for a session without a connection, and its will's delay.
    pub(super) fn cancel_due(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(at) = session.expires.take() {
            self.due.remove(&(at, Due::Session(id)));
        }
        if let Some(at) = session.will_due.take() {
            self.due.remove(&(at, Due::Will(id)));
        }
    }

    /// Ends a session with all that it holds, and publishes the wills that this brings.
    pub(super) fn end_session(&mut self, id: SessionId, ending: Ending, now: Instant) {
        self.remove_session(id, ending, now);
        self.work_off(now);
    }

    /// Ends a session with all that it holds. Its will is put behind those that are to be published.
    pub(super) fn remove_session(&mut self, id: SessionId, ending: Ending, now: Instant) {
        self.cancel_due(id);
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let account = session.account;
        for filter in &session.filters {
            self.subscriptions.remove(filter, id);
        }
        self.subscribed -= session.filters.len();
        self.clients.remove(&(account, session.client.clone()));
        self.accounts.remove_session(account, id);
        self.accounts.release(account, Resource::Sessions, 1);
        self.accounts.release(account, Resource::Queued, session.charged);
        self.accounts.release(account, Resource::Subscribed, session.subscribed);
        if session.connection.is_some() {
            self.accounts.release(account, Resource::Connections, 1);
        }
        if let (Ending::WithWill, Some(will)) = (ending, session.will.take()) {
            self.await_will(WillToSend { from: id, account, will });
        }
        self.watch_account(account, now);
    }
}
