//! Departure of a connection: a goodbye, a loss; what becomes of its session and its will.

use std::time::Instant;

use super::account::Resource;
use super::due::Ending;
use super::ids::{Link, SessionId};
use super::message::{Message, StoredWill, WillToSend, after};
use super::state::{Due, Router};
use crate::codec::packet::Disconnect;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::version::Qos;

impl<P: Policy> Router<P> {
    /// Takes a client's goodbye.
    ///
    /// # Errors
    /// When the session that was to end with the connection is given a lifetime now; the connection is then to be ended as lost.
    pub(crate) fn goodbye(&mut self, link: Link, goodbye: Disconnect, now: Instant) -> Result<(), Reason> {
        let most = u32::try_from(self.settings.max_session_expiry.as_secs()).unwrap_or(u32::MAX);
        let session = self.held(link)?;
        match goodbye.session_expiry {
            Some(seconds) if seconds > 0 && session.expiry == 0 => return Err(Reason::ProtocolError),
            Some(seconds) => session.expiry = seconds.min(most),
            None => {}
        }
        if !goodbye.with_will {
            drop(self.take_will(link.session));
        }
        self.leave(link.session, now);
        Ok(())
    }

    /// Notes that a connection is gone without a goodbye. Does nothing if the connection holds its session no longer.
    pub(crate) fn lose(&mut self, link: Link, now: Instant) {
        if self.held(link).is_ok() {
            self.leave(link.session, now);
        }
    }

    /// Takes the connection from a session, and publishes the wills that this brings.
    pub(super) fn leave(&mut self, id: SessionId, now: Instant) {
        self.detach(id, now);
        self.work_off(now);
    }

    /// Takes the connection from a session. Its will is put behind those that are to be published.
    pub(super) fn detach(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.connection.take().is_none() {
            return;
        }
        session.left = now;
        session.inflight.iter_mut().for_each(|message| message.sent = false);
        self.accounts.release(session.account, Resource::Connections, 1);
        self.shed(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.expiry == 0 {
            self.remove_session(id, Ending::WithWill, now);
            return;
        }
        session.expires = after(now, session.expiry);
        self.due.extend(session.expires.map(|at| (at, Due::Session(id))));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let delay = session.will.as_ref().map_or(0, |will| will.delay);
        if delay > 0 {
            session.will_due = after(now, delay);
            self.due.extend(session.will_due.map(|at| (at, Due::Will(id))));
        } else {
            self.release_will(id);
        }
    }

    /// Drops the messages of QoS 0 that wait for a session.
    pub(super) fn shed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let mut cost = 0;
        session.queue.retain(|delivery| {
            let is_kept = delivery.qos > Qos::Zero;
            cost += if is_kept { 0 } else { delivery.cost() };
            is_kept
        });
        session.queue.shrink_to_fit();
        session.discharge(&mut self.accounts, cost);
    }

    /// Puts the will of a session, if it has one, behind those that are to be published.
    pub(super) fn release_will(&mut self, id: SessionId) {
        let Some(account) = self.sessions.get(&id).map(|session| session.account) else { return };
        if let Some(will) = self.take_will(id) {
            self.await_will(WillToSend { from: id, account, will });
        }
    }

    /// Puts a will behind those that are to be published.
    pub(super) fn await_will(&mut self, will: WillToSend) {
        self.accounts.expect_will(will.account);
        self.wills.push_back(will);
    }

    /// Takes the will out of a session, and gives back what it was charged.
    pub(super) fn take_will(&mut self, id: SessionId) -> Option<Box<StoredWill>> {
        let session = self.sessions.get_mut(&id)?;
        let will = session.will.take()?;
        session.subscribed = session.subscribed.saturating_sub(will.cost());
        self.accounts.release(session.account, Resource::Subscribed, will.cost());
        Some(will)
    }

    /// Publishes a will, if its owner still may.
    pub(super) fn send_will(&mut self, next: &WillToSend, now: Instant) {
        let Some(identity) = self.accounts.identity(next.account) else { return };
        if !self.policy.may_publish(&identity, &next.will.topic) {
            return;
        }
        let message = Message::of_will(&next.will, next.from, now);
        // At its bound of retained bytes the will is not kept, though it is heard; nobody is there to be told.
        let _ = self.distribute(message, next.account, now);
    }
}
