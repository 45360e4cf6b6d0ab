//! A session: subscriptions, messages that wait, messages under way; and the connection that has it, if there is one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::account::{AccountId, Accounts, Resource};
use super::ids::{Link, SessionId};
use super::message::{Delivery, Message, StoredWill};
use super::retained::Walk;
use super::subscriptions::Subscription;
use crate::codec::writer::Manner;
use crate::policy::Identity;
use crate::signal::Signal;

/// The connection that has a session.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) signal: Arc<Signal>,
    pub(super) manner: Manner,
    /// Unacknowledged messages at the same time.
    pub(super) window: usize,
}

/// Retained messages that are still to be sent for a subscription.
#[derive(Debug)]
pub(super) struct Catching {
    pub(super) walk: Walk,
    pub(super) subscription: Subscription,
}

/// Step of a message under way to the client.
#[derive(Debug)]
pub(super) enum Stage {
    /// PUBLISH was sent; its PUBACK or PUBREC is awaited.
    Published(Delivery),
    /// PUBREL was sent; its PUBCOMP is awaited.
    Released,
}

/// A message under way to the client.
#[derive(Debug)]
pub(super) struct Inflight {
    pub(super) id: u16,
    pub(super) stage: Stage,
    /// Whether it was sent on the present connection.
    pub(super) sent: bool,
}

/// A client's state.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) account: AccountId,
    pub(super) client: Arc<str>,
    pub(super) connection: Option<Connection>,
    /// Seconds that it outlives its connection.
    pub(super) expiry: u32,
    /// Moment since which it has no connection.
    pub(super) left: Instant,
    pub(super) expires: Option<Instant>,
    pub(super) will: Option<Box<StoredWill>>,
    pub(super) will_due: Option<Instant>,
    pub(super) filters: Vec<Arc<str>>,
    pub(super) catching: VecDeque<Catching>,
    pub(super) queue: VecDeque<Delivery>,
    pub(super) inflight: Vec<Inflight>,
    /// Packet identifiers of QoS 2 that the client has not released.
    pub(super) unreleased: Vec<u16>,
    last_id: u16,
    /// Bytes of messages that its account is charged for.
    pub(super) charged: usize,
    /// Whether it is noted to be woken, since its retained messages wait for room.
    pub(super) is_retrying: bool,
    /// Bytes of subscriptions and of its will that its account is charged for.
    pub(super) subscribed: usize,
}

impl Session {
    pub(super) fn new(id: SessionId, account: AccountId, client: Arc<str>, now: Instant) -> Self {
        Self {
            id,
            account,
            client,
            connection: None,
            expiry: 0,
            left: now,
            expires: None,
            will: None,
            will_due: None,
            filters: Vec::new(),
            catching: VecDeque::new(),
            queue: VecDeque::new(),
            inflight: Vec::new(),
            unreleased: Vec::new(),
            last_id: 0,
            charged: 0,
            is_retrying: false,
            subscribed: 0,
        }
    }

    /// Gives back what a message in its queue or under way was charged.
    pub(super) fn discharge<I: Identity>(&mut self, accounts: &mut Accounts<I>, cost: usize) {
        self.charged = self.charged.saturating_sub(cost);
        accounts.release(self.account, Resource::Queued, cost);
    }

    /// Tells whether a message came from this session's client.
    pub(super) fn is_from(&self, message: &Message) -> bool {
        message.from == self.id
    }

    /// Tells whether this connection has it.
    pub(super) fn is_held_by(&self, link: Link) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.number == link.connection)
    }

    /// Returns a packet identifier that is not in use.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.inflight.iter().any(|message| message.id == self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Gives memory back that nothing is kept in any longer, as most sessions idle most of the time.
    pub(super) fn settle(&mut self) {
        if self.inflight.is_empty() {
            self.inflight = Vec::new();
        }
        if self.unreleased.is_empty() {
            self.unreleased = Vec::new();
        }
    }

    /// Tells the connection that there is something to send.
    pub(super) fn wake(&self) {
        if let Some(connection) = &self.connection {
            connection.signal.raise();
        }
    }
}
