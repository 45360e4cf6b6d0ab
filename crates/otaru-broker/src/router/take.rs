//! The next packets for a client: what was under way when its last connection ended, what waits, and retained messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{Accounts, Resource};
use super::ids::Link;
use super::message::{Delivery, Message};
use super::retained::{Retained, Step};
use super::session::{Inflight, Session, Stage};
use super::state::{Due, Router};
use super::subscriptions::Subscription;
use crate::codec::ack::AckKind;
use crate::codec::writer::Manner;
use crate::outgoing::Outgoing;
use crate::policy::{Identity, Policy};
use crate::reason::Reason;
use crate::version::Qos;

/// State of a session after some of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There may be more.
    More,
    /// Nothing can be sent at present.
    All,
}

/// Session of one client with all that is needed to send to it.
struct Sender<'r, I> {
    accounts: &'r mut Accounts<I>,
    retained: &'r Retained,
    session: &'r mut Session,
    manner: Manner,
    window: usize,
    now: Instant,
    out: &'r mut Outgoing,
    dropped: &'r mut u64,
    /// Steps and topics looked at that are left, whether something is sent or not.
    looks: usize,
}

/// Steps and topics looked at of one [`Router::take`], for which all others wait.
const LOOKS: usize = 512;

/// Time after which it is looked again whether there is room for retained messages, if nothing that is acknowledged makes it sooner.
const RETRY: Duration = Duration::from_secs(1);

/// Outcome of one step.
enum Next {
    /// Something was done; there may be more.
    Again,
    /// A pause, for others' sake.
    Pause,
    /// Nothing can be done at present.
    Nothing,
    /// There is no room for what is next.
    Full,
}

impl<P: Policy> Router<P> {
    /// Puts the next packets for a client into `out`, until it is full or enough was looked at.
    ///
    /// # Errors
    /// When the connection holds its session no longer.
    pub(crate) fn take(&mut self, link: Link, now: Instant, out: &mut Outgoing) -> Result<Taken, Reason> {
        let session = self.sessions.get_mut(&link.session).filter(|session| session.is_held_by(link));
        let session = &mut **session.ok_or(Reason::SessionTakenOver)?;
        let Some(connection) = &session.connection else { return Ok(Taken::All) };
        let (manner, window) = (connection.manner, connection.window);
        let (accounts, retained, dropped) = (&mut self.accounts, &self.retained, &mut self.dropped);
        let looks = LOOKS;
        let mut sender = Sender { accounts, retained, session, manner, window, now, out, dropped, looks };
        while !sender.out.is_full() && sender.looks > 0 {
            match sender.step() {
                Next::Again => {}
                Next::Pause => return Ok(Taken::More),
                Next::Nothing => return Ok(Taken::All),
                Next::Full => {
                    if !std::mem::replace(&mut sender.session.is_retrying, true) {
                        self.due.extend(now.checked_add(RETRY).map(|at| (at, Due::Room(link.session))));
                    }
                    return Ok(Taken::All);
                }
            }
        }
        Ok(Taken::More)
    }
}

impl<I: Identity> Sender<'_, I> {
    fn step(&mut self) -> Next {
        if let Some(place) = self.session.inflight.iter().position(|message| !message.sent) {
            self.looks -= 1;
            return self.repeat(place);
        }
        let has_window = self.session.inflight.len() < self.window;
        match self.session.queue.front() {
            Some(next) if next.qos > Qos::Zero && !has_window => Next::Nothing,
            Some(_) => {
                self.looks -= 1;
                if let Some(delivery) = self.session.queue.pop_front() {
                    self.send(delivery);
                }
                if self.session.queue.is_empty() {
                    self.session.queue.shrink_to_fit();
                }
                Next::Again
            }
            None => self.catch_up(has_window),
        }
    }

    /// Sends again what an earlier connection left under way.
    fn repeat(&mut self, place: usize) -> Next {
        let sent = self.session.inflight.iter().filter(|message| message.sent).count();
        if sent >= self.window {
            return Next::Nothing;
        }
        let Some(message) = self.session.inflight.get_mut(place) else { return Next::Nothing };
        message.sent = true;
        let fits = match &message.stage {
            Stage::Released => {
                self.manner.ack(self.out.packets(), AckKind::Pubrel, message.id, Reason::Success);
                true
            }
            Stage::Published(delivery) => {
                let head = delivery.head(message.id, true, self.now);
                let fits = head.packet_length(self.manner.version) <= self.manner.largest;
                if fits {
                    self.out.publish(self.manner.version, &head, &delivery.message.payload);
                }
                fits
            }
        };
        if !fits && let Stage::Published(delivery) = self.session.inflight.remove(place).stage {
            self.session.discharge(self.accounts, delivery.cost());
        }
        Next::Again
    }

    /// Sends a copy that is charged for, unless its life is over or the client does not take packets of its size.
    fn send(&mut self, delivery: Delivery) {
        let cost = delivery.cost();
        if delivery.message.is_over(self.now) {
            return self.session.discharge(self.accounts, cost);
        }
        let tracked = delivery.qos > Qos::Zero;
        let id = if tracked { self.session.next_id() } else { 0 };
        let head = delivery.head(id, false, self.now);
        let fits = head.packet_length(self.manner.version) <= self.manner.largest;
        if fits {
            self.out.publish(self.manner.version, &head, &delivery.message.payload);
        }
        match fits && tracked {
            true => {
                self.session.inflight.push(Inflight { id, stage: Stage::Published(delivery), sent: true });
            }
            false => self.session.discharge(self.accounts, cost),
        }
    }

    /// Goes on with the retained messages for new subscriptions. Nothing waits any longer, so none is older than what was sent.
    fn catch_up(&mut self, has_window: bool) -> Next {
        let Some(catching) = self.session.catching.front_mut() else { return Next::Nothing };
        if catching.subscription.qos > Qos::Zero && !has_window {
            return Next::Nothing;
        }
        let (subscription, place) = (catching.subscription, catching.walk.place());
        match self.retained.step(&mut catching.walk, &mut self.looks) {
            Step::Found(message) => {
                let own = subscription.no_local && self.session.is_from(&message);
                if own || self.send_retained(message, subscription) {
                    return Next::Again;
                }
                if let Some(catching) = self.session.catching.front_mut() {
                    catching.walk.go_back(place);
                }
                Next::Full
            }
            Step::Pause => Next::Pause,
            Step::Done => {
                self.session.catching.pop_front();
                if self.session.catching.is_empty() {
                    self.session.catching.shrink_to_fit();
                }
                Next::Again
            }
        }
    }

    /// Sends a retained message, which is charged for as any other while it is under way. Says whether there was room, or never will be.
    fn send_retained(&mut self, message: Arc<Message>, subscription: Subscription) -> bool {
        let qos = subscription.qos.min(message.qos);
        let identifiers = Some(subscription.identifier).filter(|identifier| *identifier != 0);
        let subscriptions = identifiers.into_iter().collect();
        let delivery = Delivery { message, qos, retain: true, subscriptions };
        let (account, cost) = (self.session.account, delivery.cost());
        if qos == Qos::Zero {
            // It is given back before anybody else has his turn.
            self.accounts.force(account, Resource::Queued, cost);
        } else if self.accounts.charge(account, Resource::Queued, cost, 1).is_err() {
            let never = !self.accounts.could_hold(account, Resource::Queued, cost);
            *self.dropped += u64::from(never);
            return never;
        }
        self.session.charged += cost;
        self.send(delivery);
        true
    }
}
