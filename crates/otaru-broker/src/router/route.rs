//! The way of a message: kept if it is to be, and put into the queue of each session that wants it.

use std::sync::Arc;
use std::time::Instant;

use super::account::{AccountId, Full, Resource};
use super::ids::SessionId;
use super::message::{Delivery, Message, Routing};
use super::state::{Due, Router};
use super::subscriptions::Subscription;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::version::Qos;

impl<P: Policy> Router<P> {
    /// Keeps a message if it is to be retained, and gives it to those who want it; then the wills of those whose connections it ended.
    /// More receivers than others can wait for are [left for later](Self::work_off).
    ///
    /// # Errors
    /// When its owner's retained bytes have no room for it: then it is not kept. All who want it have it even so.
    pub(super) fn publish_message(
        &mut self,
        message: Message,
        owner: AccountId,
        now: Instant,
    ) -> Result<(), Full> {
        let kept = self.distribute(message, owner, now);
        self.work_off(now);
        kept
    }

    /// Keeps a message if it is to be retained, and puts it on its way to all who want it.
    ///
    /// # Errors
    /// When its owner's retained bytes have no room for it: then it is not kept. All who want it have it even so.
    pub(super) fn distribute(
        &mut self,
        message: Message,
        owner: AccountId,
        now: Instant,
    ) -> Result<(), Full> {
        let message = Arc::new(message);
        let kept = if message.retain { self.retain(&message, owner, now) } else { Ok(()) };
        let mut receivers = std::mem::take(&mut self.receivers);
        self.subscriptions.matching(&message.topic, &mut receivers);
        self.underway.push_back(Routing::new(message, receivers));
        kept
    }

    /// Puts a message in the place of its topic's last; one without a payload only takes the last away.
    fn retain(&mut self, message: &Arc<Message>, owner: AccountId, now: Instant) -> Result<(), Full> {
        if message.payload.is_empty() {
            self.forget_topic(&message.topic, now);
            return Ok(());
        }
        let own_before = self.retained.get(&message.topic).filter(|entry| entry.owner == owner);
        let before = own_before.map_or(0, |entry| entry.message.cost());
        self.accounts.release(owner, Resource::Retained, before);
        let charged = self.accounts.charge(owner, Resource::Retained, message.cost(), 1);
        self.accounts.force(owner, Resource::Retained, before);
        charged?;
        self.forget_topic(&message.topic, now);
        self.due.extend(message.expires.map(|at| (at, Due::Retained(message.topic.clone()))));
        self.retained.put(Arc::clone(message), owner);
        Ok(())
    }

    /// Gives one session its copy, however many of its subscriptions match.
    pub(super) fn offer(
        &mut self,
        message: &Arc<Message>,
        matching: &[(SessionId, Subscription)],
        now: Instant,
    ) {
        let wanted = matching
            .iter()
            .filter(|(session, subscription)| !(subscription.no_local && *session == message.from));
        let (mut to, mut identifiers) = (None, Vec::new());
        let (mut qos, mut retain) = (Qos::Zero, false);
        for (session, subscription) in wanted {
            to = Some(*session);
            qos = qos.max(subscription.qos);
            retain |= subscription.retain_as_published && message.retain;
            if subscription.identifier != 0 {
                identifiers.push(subscription.identifier);
            }
        }
        let Some(to) = to else { return };
        identifiers.shrink_to_fit();
        let qos = qos.min(message.qos);
        let delivery = Delivery { message: Arc::clone(message), qos, retain, subscriptions: identifiers };
        self.enqueue(to, delivery, now);
    }

    /// Puts a copy into a session's queue. At a bound QoS 0 is dropped first; then whoever [holds the most](Self::make_queue_room)
    /// makes room. If nobody does, this copy is dropped, and at the bound of its own identity its connection is ended.
    fn enqueue(&mut self, id: SessionId, delivery: Delivery, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (account, cost) = (session.account, delivery.cost());
        let droppable = delivery.qos == Qos::Zero;
        if droppable && session.connection.is_none() {
            return;
        }
        // Half of the room is for messages that must arrive.
        let part = if droppable { 2 } else { 1 };
        let mut charged = self.accounts.charge(account, Resource::Queued, cost, part);
        if charged.is_err() && !droppable {
            self.shed(id);
            charged = self.accounts.charge(account, Resource::Queued, cost, 1);
        }
        if let Err(full) = charged
            && !droppable
            && self.make_queue_room((id, account), full, cost, now)
        {
            charged = self.accounts.charge(account, Resource::Queued, cost, 1);
        }
        match (charged, self.sessions.get_mut(&id)) {
            (Ok(()), Some(session)) => {
                session.charged += cost;
                session.queue.push_back(delivery);
                session.wake();
            }
            (charged, _) => {
                self.dropped += 1;
                let is_there = self.sessions.get(&id).is_some_and(|session| session.connection.is_some());
                if !droppable && charged == Err(Full::Own) && is_there && self.ended_for.insert(account) {
                    self.end_connection(id, Reason::QuotaExceeded, now);
                }
            }
        }
    }
}
