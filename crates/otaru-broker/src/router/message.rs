//! A message within the broker, and one receiver's copy of it: the bytes are shared, the copies are small.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::account::AccountId;
use super::ids::SessionId;
use super::subscriptions::Subscription;
use crate::codec::connect::Will;
use crate::codec::publish::{Forwarded, Head, Publish};
use crate::version::Qos;

/// Bytes that a message or a copy of it costs beside its content.
pub(crate) const OVERHEAD: usize = 128;

/// A published message. Nothing is added to what its publisher sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Session of its publisher.
    pub(crate) from: SessionId,
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) properties: Forwarded,
    pub(crate) qos: Qos,
    /// Retain flag as the publisher set it.
    pub(crate) retain: bool,
    /// End of its life.
    pub(crate) expires: Option<Instant>,
}

/// Returns a moment after so many seconds; none if it is too far away to count.
pub(super) fn after(now: Instant, seconds: u32) -> Option<Instant> {
    now.checked_add(Duration::from_secs(seconds.into()))
}

impl Message {
    pub(crate) fn of_publish(publish: &Publish<'_>, from: SessionId, now: Instant) -> Self {
        Self {
            from,
            topic: publish.topic.into(),
            payload: Bytes::copy_from_slice(publish.payload),
            properties: publish.properties.clone(),
            qos: publish.qos,
            retain: publish.retain,
            expires: publish.expiry.and_then(|seconds| after(now, seconds)),
        }
    }

    /// Makes the message of a will; its life begins now.
    pub(super) fn of_will(will: &StoredWill, from: SessionId, now: Instant) -> Self {
        Self {
            from,
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            properties: will.properties.clone(),
            qos: will.qos,
            retain: will.retain,
            expires: will.expiry.and_then(|seconds| after(now, seconds)),
        }
    }

    /// Returns the bytes that it counts for.
    pub(crate) fn cost(&self) -> usize {
        OVERHEAD + self.topic.len() + self.properties.len() + self.payload.len()
    }

    /// Tells whether its life is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Returns the seconds that are left of its life, at least one while it lives.
    fn remaining(&self, now: Instant) -> Option<u32> {
        let left = self.expires?.saturating_duration_since(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

/// A will that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredWill {
    pub(super) topic: Arc<str>,
    payload: Bytes,
    properties: Forwarded,
    qos: Qos,
    retain: bool,
    expiry: Option<u32>,
    pub(super) delay: u32,
}

/// A will whose time has come, and whose it is.
#[derive(Debug)]
pub(super) struct WillToSend {
    pub(super) from: SessionId,
    pub(super) account: AccountId,
    pub(super) will: Box<StoredWill>,
}

impl StoredWill {
    /// Returns the bytes that it counts for.
    pub(super) fn cost(&self) -> usize {
        OVERHEAD + self.topic.len() + self.properties.len() + self.payload.len()
    }
}

impl From<&Will<'_>> for StoredWill {
    fn from(will: &Will<'_>) -> Self {
        Self {
            topic: will.topic.into(),
            payload: Bytes::copy_from_slice(will.payload),
            properties: will.properties.clone(),
            qos: will.qos,
            retain: will.retain,
            expiry: will.expiry,
            delay: will.delay,
        }
    }
}

/// One receiver's copy of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that brought it.
    pub(crate) subscriptions: Vec<u32>,
}

impl Delivery {
    /// Returns the bytes that it counts for.
    pub(super) fn cost(&self) -> usize {
        self.message.cost() + size_of::<u32>() * self.subscriptions.len()
    }

    /// Describes its packet.
    pub(super) fn head(&self, id: u16, repeated: bool, now: Instant) -> Head<'_> {
        Head {
            topic: &self.message.topic,
            qos: self.qos,
            retain: self.retain,
            repeated,
            id,
            expiry: self.message.remaining(now),
            properties: &self.message.properties,
            subscriptions: &self.subscriptions,
            payload: self.message.payload.len(),
        }
    }
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) message: Arc<Message>,
    pub(super) receivers: Vec<(SessionId, Subscription)>,
    /// Receivers that were looked at.
    pub(super) done: usize,
    /// Accounts for which a session was ended to make room for it.
    pub(super) ended_for: HashSet<AccountId>,
}

impl Routing {
    pub(super) fn new(message: Arc<Message>, receivers: Vec<(SessionId, Subscription)>) -> Self {
        Self { message, receivers, done: 0, ended_for: HashSet::new() }
    }
}
