//! Messages from a client, and the steps of those on their way to it.

use std::time::Instant;

use super::ids::Link;
use super::message::Message;
use super::session::{Inflight, Session, Stage};
use super::state::Router;
use crate::codec::ack::{Ack, AckKind};
use crate::codec::publish::Publish;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::version::{Qos, Version};

impl<P: Policy> Router<P> {
    /// Takes a message from a client and writes the answer. Other receivers may still have to be given [their copies](Self::work_off).
    ///
    /// # Errors
    /// When the connection is to be ended.
    pub(crate) fn publish(
        &mut self,
        link: Link,
        publish: &Publish<'_>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        let (at_once, at_once_311) = (self.settings.receive_maximum, self.settings.receive_maximum_311);
        let session = self.held(link)?;
        let Some(manner) = session.connection.as_ref().map(|connection| connection.manner) else {
            return Ok(());
        };
        let account = session.account;
        if publish.qos == Qos::Two {
            if session.unreleased.contains(&publish.id) {
                manner.ack(out, AckKind::Pubrec, publish.id, Reason::Success);
                return Ok(());
            }
            let most = if manner.version == Version::V5 { at_once } else { at_once_311 };
            if session.unreleased.len() >= most.into() {
                return Err(Reason::ReceiveMaximumExceeded);
            }
        }
        let allowed = self
            .accounts
            .identity(account)
            .is_some_and(|identity| self.policy.may_publish(&identity, publish.topic));
        let outcome = match allowed {
            true => self
                .publish_message(Message::of_publish(publish, link.session, now), account, now)
                .map_or(Reason::QuotaExceeded, |()| Reason::Success),
            false => Reason::NotAuthorized,
        };
        match publish.qos {
            Qos::Zero => {}
            Qos::One => manner.ack(out, AckKind::Puback, publish.id, outcome),
            Qos::Two => {
                manner.ack(out, AckKind::Pubrec, publish.id, outcome);
                // Version 3.1.1 does not learn of the outcome and will release it.
                if !outcome.is_error() || manner.version == Version::V311 {
                    // The message may have ended this very connection.
                    if let Ok(session) = self.held(link) {
                        session.unreleased.push(publish.id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a step of a message's delivery and writes the next.
    ///
    /// # Errors
    /// When the connection holds its session no longer.
    pub(crate) fn acknowledge(&mut self, link: Link, ack: Ack, out: &mut Vec<u8>) -> Result<(), Reason> {
        let session = self.held(link)?;
        let Some(manner) = session.connection.as_ref().map(|connection| connection.manner) else {
            return Ok(());
        };
        match ack.kind {
            AckKind::Pubrel => {
                let known = session.unreleased.iter().position(|id| *id == ack.id);
                if let Some(place) = known {
                    session.unreleased.swap_remove(place);
                }
                let reason = known.map_or(Reason::PacketIdentifierNotFound, |_| Reason::Success);
                manner.ack(out, AckKind::Pubcomp, ack.id, reason);
            }
            AckKind::Puback => self.settle(link, ack.id, Qos::One, None),
            AckKind::Pubrec => {
                let known = session.inflight.iter().any(|message| message.id == ack.id);
                let next = if ack.refuses { None } else { Some(Stage::Released) };
                self.settle(link, ack.id, Qos::Two, next);
                match known {
                    true if ack.refuses => {}
                    true => manner.ack(out, AckKind::Pubrel, ack.id, Reason::Success),
                    false => manner.ack(out, AckKind::Pubrel, ack.id, Reason::PacketIdentifierNotFound),
                }
            }
            AckKind::Pubcomp => {
                let done =
                    |message: &Inflight| message.id == ack.id && matches!(message.stage, Stage::Released);
                session.inflight.retain(|message| !done(message));
            }
        }
        self.held(link)?.settle();
        Ok(())
    }

    /// Ends the first step of a message to a client, and gives back what it was charged.
    fn settle(&mut self, link: Link, id: u16, qos: Qos, next: Option<Stage>) {
        let Some(session) = self.sessions.get_mut(&link.session) else { return };
        let Some(place) = published(session, id, qos) else { return };
        let Some(message) = session.inflight.get_mut(place) else { return };
        let cost = match &message.stage {
            Stage::Published(delivery) => delivery.cost(),
            Stage::Released => 0,
        };
        match next {
            Some(next) => message.stage = next,
            None => drop(session.inflight.remove(place)),
        }
        session.discharge(&mut self.accounts, cost);
    }
}

/// Finds a message of this guarantee that was sent and is not acknowledged.
fn published(session: &Session, id: u16, qos: Qos) -> Option<usize> {
    session.inflight.iter().position(|message| {
        message.id == id && matches!(&message.stage, Stage::Published(delivery) if delivery.qos == qos)
    })
}
