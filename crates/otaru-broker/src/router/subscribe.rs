//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use super::account::Resource;
use super::ids::{Link, SessionId};
use super::retained::Walk;
use super::session::Catching;
use super::state::Router;
use super::subscriptions::{Subscription, cost};
use crate::codec::subscribe::{Options, RetainHandling};
use crate::codec::topic;
use crate::policy::Policy;
use crate::reason::Reason;

/// Filters of a packet that are looked at while all others wait.
const FILTERS: usize = 256;

impl<P: Policy> Router<P> {
    /// Takes the next filters of a SUBSCRIBE, and puts the code of each behind the `codes`. Says whether there may be more: one packet
    /// may have very many, and all others wait meanwhile. Retained messages follow the answer.
    ///
    /// # Errors
    /// When the connection holds its session no longer.
    pub(crate) fn subscribe<'p>(
        &mut self,
        link: Link,
        filters: &mut impl Iterator<Item = (&'p str, Options)>,
        identifier: u32,
        codes: &mut Vec<u8>,
    ) -> Result<bool, Reason> {
        self.held(link)?;
        let before = codes.len();
        for (filter, options) in filters.take(FILTERS) {
            codes.push(match self.grant(link.session, filter, options, identifier) {
                Ok(()) => options.qos as u8,
                Err(reason) => reason.code(),
            });
        }
        Ok(codes.len() - before == FILTERS)
    }

    fn grant(
        &mut self,
        id: SessionId,
        filter: &str,
        options: Options,
        identifier: u32,
    ) -> Result<(), Reason> {
        if topic::is_shared(filter) {
            return Err(Reason::SharedSubscriptionsNotSupported);
        }
        if !topic::is_filter(filter) {
            return Err(Reason::TopicFilterInvalid);
        }
        let session = self.sessions.get_mut(&id).ok_or(Reason::Unspecified)?;
        let identity = self.accounts.identity(session.account).ok_or(Reason::Unspecified)?;
        if !self.policy.may_subscribe(&identity, filter) {
            return Err(Reason::NotAuthorized);
        }
        let known = session.filters.iter().find(|known| &***known == filter).cloned();
        let is_new = known.is_none();
        let name: Arc<str> = known.unwrap_or_else(|| filter.into());
        if is_new {
            if session.filters.len() >= self.accounts.bounds(session.account).subscriptions {
                return Err(Reason::QuotaExceeded);
            }
            let charged = self.accounts.charge(session.account, Resource::Subscribed, cost(filter), 1);
            // "Server busy" is no answer to a SUBSCRIBE.
            charged.map_err(|_| Reason::QuotaExceeded)?;
            session.subscribed += cost(filter);
            session.filters.push(name.clone());
            self.subscribed += 1;
        }
        let subscription = Subscription {
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            identifier,
        };
        self.subscriptions.insert(filter, id, subscription);
        let wants_retained = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::Skip => false,
        };
        session.catching.retain(|catching| catching.walk.filter != name);
        if wants_retained {
            session.catching.push_back(Catching { walk: Walk::new(name), subscription });
        }
        Ok(())
    }

    /// Takes the next filters of an UNSUBSCRIBE, in the same way.
    ///
    /// # Errors
    /// When the connection holds its session no longer.
    pub(crate) fn unsubscribe<'p>(
        &mut self,
        link: Link,
        filters: &mut impl Iterator<Item = &'p str>,
        codes: &mut Vec<u8>,
    ) -> Result<bool, Reason> {
        self.held(link)?;
        let before = codes.len();
        for filter in filters.take(FILTERS) {
            codes.push(match self.drop_subscription(link.session, filter) {
                true => Reason::Success.code(),
                false => Reason::NoSubscriptionExisted.code(),
            });
        }
        Ok(codes.len() - before == FILTERS)
    }

    /// Drops a subscription of a session; returns whether it had it.
    pub(super) fn drop_subscription(&mut self, id: SessionId, filter: &str) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(place) = session.filters.iter().position(|known| &**known == filter) else {
            return false;
        };
        session.filters.swap_remove(place);
        session.subscribed = session.subscribed.saturating_sub(cost(filter));
        self.accounts.release(session.account, Resource::Subscribed, cost(filter));
        session.catching.retain(|catching| &*catching.walk.filter != filter);
        self.subscriptions.remove(filter, id);
        self.subscribed -= 1;
        true
    }
}
