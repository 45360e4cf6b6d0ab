//! Accounts: holdings of each identity, of its group and of all, and how much there may be.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::ids::SessionId;
use crate::policy::{Admission, Group, Identity};
use crate::rate::Bucket;
use crate::settings::{Bounds, Quota};

/// Number of an account; 0 is that of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct AccountId(u32);

pub(super) const ALL: AccountId = AccountId(0);

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Connections,
    Sessions,
    Queued,
    Retained,
    Subscribed,
}

/// Level at which a bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The identity's own.
    Own,
    /// That of its group.
    Group,
    /// That of all together.
    All,
}

/// Holder of an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder<I> {
    All,
    Group(String),
    Identity(Arc<I>),
}

/// Amounts that are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holdings {
    pub(super) connections: usize,
    pub(super) sessions: usize,
    pub(super) queued_bytes: usize,
    pub(super) retained_bytes: usize,
    pub(super) subscribed_bytes: usize,
}

/// Holdings and bounds of one holder.
#[derive(Debug)]
struct Account<I> {
    holder: Holder<I>,
    parent: Option<AccountId>,
    quota: Quota,
    bounds: Bounds,
    used: Holdings,
    connects: Bucket,
    /// Sessions of an identity, in no order.
    sessions: Vec<SessionId>,
    /// Accounts that have this one as their parent.
    children: usize,
    /// Wills of its sessions that are to be published.
    wills: usize,
    /// Whether it is noted to be looked at.
    watched: bool,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Accounts<I> {
    accounts: Vec<Option<Account<I>>>,
    free: Vec<AccountId>,
    holders: HashMap<Holder<I>, AccountId>,
    /// Identities with more queued bytes than are their own, by how many these are, for each account above them.
    hoarders: BTreeSet<(AccountId, usize, AccountId)>,
    /// Holdings of all identities, those that are their own included.
    total: Holdings,
}

/// Bytes of subscriptions for each session of a quota, so that it bounds them, too; and the least and the most that come of this for
/// an identity or a group. All together may have twice the most.
const SUBSCRIBED_BYTES: usize = 16 << 10;
const LEAST_SUBSCRIBED_BYTES: usize = 256 << 10;
const MOST_SUBSCRIBED_BYTES: usize = 128 << 20;

impl Holdings {
    const RESOURCES: [Resource; 5] = [
        Resource::Connections,
        Resource::Sessions,
        Resource::Queued,
        Resource::Retained,
        Resource::Subscribed,
    ];

    fn of(&mut self, resource: Resource) -> &mut usize {
        match resource {
            Resource::Connections => &mut self.connections,
            Resource::Sessions => &mut self.sessions,
            Resource::Queued => &mut self.queued_bytes,
            Resource::Retained => &mut self.retained_bytes,
            Resource::Subscribed => &mut self.subscribed_bytes,
        }
    }
}

impl<I: Identity> Account<I> {
    fn new(holder: Holder<I>, parent: Option<AccountId>, quota: Quota, now: Instant) -> Self {
        let (bounds, connects) = (Bounds::default(), Bucket::full(now));
        let (sessions, children, watched) = (Vec::new(), 0, false);
        Self {
            holder,
            parent,
            quota,
            bounds,
            used: Holdings::default(),
            connects,
            sessions,
            children,
            wills: 0,
            watched,
        }
    }

    /// Returns the most that it may hold.
    fn limit(&self, resource: Resource) -> usize {
        match resource {
            Resource::Connections => self.quota.connections,
            Resource::Sessions => self.quota.sessions,
            Resource::Queued => self.quota.queued_bytes,
            Resource::Retained => self.quota.retained_bytes,
            Resource::Subscribed => {
                let most =
                    if self.parent.is_some() { MOST_SUBSCRIBED_BYTES } else { 2 * MOST_SUBSCRIBED_BYTES };
                self.quota.sessions.saturating_mul(SUBSCRIBED_BYTES).clamp(LEAST_SUBSCRIBED_BYTES, most)
            }
        }
    }

    /// Returns the level of its bounds.
    fn full(&self) -> Full {
        match self.holder {
            Holder::Identity(_) => Full::Own,
            Holder::Group(_) => Full::Group,
            Holder::All => Full::All,
        }
    }

    /// Returns the amount that is an identity's own: nobody above counts it.
    fn share(&self, resource: Resource) -> usize {
        match (&self.holder, resource) {
            (Holder::Identity(_), Resource::Queued) => self.bounds.queued_share,
            (Holder::Identity(_), Resource::Retained) => self.bounds.retained_share,
            _ => 0,
        }
    }

    /// Returns what counts for those above if so much is held.
    fn excess_of(&self, held: usize, resource: Resource) -> usize {
        held.saturating_sub(self.share(resource))
    }

    fn excess(&self, resource: Resource) -> usize {
        let mut used = self.used;
        self.excess_of(*used.of(resource), resource)
    }

    fn is_idle(&self) -> bool {
        self.used == Holdings::default() && self.children == 0 && self.wills == 0
    }
}

impl<I: Identity> Accounts<I> {
    pub(super) fn new(in_all: Quota, now: Instant) -> Self {
        let all = Account::new(Holder::All, None, in_all, now);
        let (holders, hoarders, total) = (HashMap::new(), BTreeSet::new(), Holdings::default());
        Self { accounts: vec![Some(all)], free: Vec::new(), holders, hoarders, total }
    }

    fn get(&self, id: AccountId) -> Option<&Account<I>> {
        self.accounts.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: AccountId) -> Option<&mut Account<I>> {
        self.accounts.get_mut(id.0 as usize)?.as_mut()
    }

    /// Opens the account of an identity, or renews its bounds and moves it to the group that it has now. Returns it, and the account
    /// that it was moved from, which may be idle now.
    pub(super) fn open(&mut self, admission: &Admission<I>, now: Instant) -> (AccountId, Option<AccountId>) {
        let holder = Holder::Identity(Arc::new(admission.identity.clone()));
        let parent = admission.group.as_ref().map_or(ALL, |group| self.open_group(group, now));
        let id = match self.holders.get(&holder) {
            Some(id) => *id,
            None => self.insert(holder, parent, admission.bounds.quota, now),
        };
        (id, self.renew(id, parent, admission.bounds))
    }

    /// Gives an account other bounds and moves it with all that it holds, whether there is room or not. Returns the parent that it had, if
    /// that is another.
    fn renew(&mut self, id: AccountId, parent: AccountId, bounds: Bounds) -> Option<AccountId> {
        let account = self.get_mut(id)?;
        let before = account.parent?;
        let counted = Holdings::RESOURCES.map(|resource| account.excess(resource));
        (account.bounds, account.quota, account.parent) = (bounds, bounds.quota, Some(parent));
        let counts = Holdings::RESOURCES.map(|resource| account.excess(resource));
        for ((resource, counted), counts) in Holdings::RESOURCES.into_iter().zip(counted).zip(counts) {
            self.recount(id, before, resource, (counted, 0));
            self.recount(id, parent, resource, (0, counts));
        }
        if before == parent {
            return None;
        }
        if let Some(before) = self.get_mut(before) {
            before.children -= 1;
        }
        if let Some(parent) = self.get_mut(parent) {
            parent.children += 1;
        }
        Some(before)
    }

    fn open_group(&mut self, group: &Group, now: Instant) -> AccountId {
        let holder = Holder::Group(group.name.clone());
        let id = match self.holders.get(&holder) {
            Some(id) => *id,
            None => self.insert(holder, ALL, group.quota, now),
        };
        if let Some(account) = self.get_mut(id) {
            account.quota = group.quota;
        }
        id
    }

    fn insert(&mut self, holder: Holder<I>, parent: AccountId, quota: Quota, now: Instant) -> AccountId {
        let account = Account::new(holder.clone(), Some(parent), quota, now);
        if let Some(parent) = self.get_mut(parent) {
            parent.children += 1;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.accounts.push(None);
            AccountId(u32::try_from(self.accounts.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) = self.accounts.get_mut(id.0 as usize) {
            *place = Some(account);
        }
        self.holders.insert(holder, id);
        id
    }

    /// Keeps an account open until a will is published that its session left: that is the identity's word still.
    pub(super) fn expect_will(&mut self, id: AccountId) {
        if let Some(account) = self.get_mut(id) {
            account.wills += 1;
        }
    }

    /// Takes that back.
    pub(super) fn has_sent_will(&mut self, id: AccountId) {
        if let Some(account) = self.get_mut(id) {
            account.wills = account.wills.saturating_sub(1);
        }
    }

    /// Tells whether an account is to be looked at later, which is told once, since it holds nothing now.
    pub(super) fn watch_if_idle(&mut self, id: AccountId) -> bool {
        self.get_mut(id).is_some_and(|account| {
            account.is_idle() && account.parent.is_some() && !std::mem::replace(&mut account.watched, true)
        })
    }

    /// Closes an account that still holds nothing; at a moment, not before its rate of connects has recovered. Returns what may now be
    /// watched in its place.
    pub(super) fn close_if_idle(&mut self, id: AccountId, at: Option<Instant>) -> Option<AccountId> {
        let account = self.get_mut(id)?;
        account.watched = false;
        if !account.is_idle() {
            return None;
        }
        if at.is_some_and(|now| !account.connects.is_full(now)) {
            return Some(id);
        }
        let parent = account.parent?;
        let account = self.accounts.get_mut(id.0 as usize)?.take()?;
        self.holders.remove(&account.holder);
        self.free.push(id);
        if let Some(parent) = self.get_mut(parent) {
            parent.children -= 1;
        }
        Some(parent)
    }

    /// Takes one connect from the identity's rate.
    pub(super) fn take_connect(&mut self, id: AccountId, now: Instant) -> bool {
        self.get_mut(id).is_some_and(|account| account.connects.take(account.bounds.connects, now))
    }

    /// Returns the bounds of an identity.
    pub(super) fn bounds(&self, id: AccountId) -> Bounds {
        self.get(id).map(|account| account.bounds).unwrap_or_default()
    }

    /// Returns the identity of an account.
    pub(super) fn identity(&self, id: AccountId) -> Option<Arc<I>> {
        match &self.get(id)?.holder {
            Holder::Identity(identity) => Some(identity.clone()),
            _ => None,
        }
    }

    /// Returns all identities with this property that have an account. Looks at each account.
    pub(super) fn identities(&self, mut wanted: impl FnMut(&I) -> bool) -> Vec<I> {
        let of_identity = |holder: &Holder<I>| match holder {
            Holder::Identity(identity) if wanted(identity) => Some(I::clone(identity)),
            _ => None,
        };
        self.holders.keys().filter_map(of_identity).collect()
    }

    /// Returns the account of an identity, if it has one.
    pub(super) fn find(&self, identity: &I) -> Option<AccountId> {
        self.holders.get(&Holder::Identity(Arc::new(identity.clone()))).copied()
    }

    /// Returns the account whose bound was reached, for one that counts for it.
    pub(super) fn at_level(&self, id: AccountId, full: Full) -> AccountId {
        match full {
            Full::Own => id,
            Full::Group => self.parent(id),
            Full::All => ALL,
        }
    }

    /// Returns the account above one: that of its group or of all.
    pub(super) fn parent(&self, id: AccountId) -> AccountId {
        self.get(id).and_then(|account| account.parent).unwrap_or(ALL)
    }

    /// Returns the sessions of an account.
    pub(super) fn sessions(&self, id: AccountId) -> &[SessionId] {
        self.get(id).map_or(&[], |account| &account.sessions)
    }

    pub(super) fn add_session(&mut self, id: AccountId, session: SessionId) {
        if let Some(account) = self.get_mut(id) {
            account.sessions.push(session);
        }
    }

    pub(super) fn remove_session(&mut self, id: AccountId, session: SessionId) {
        if let Some(account) = self.get_mut(id) {
            account.sessions.retain(|known| *known != session);
        }
    }

    /// Charges an account and all above it, if each has room for it in the `part`th part of its quota. For what is an identity's own
    /// those above have room in any case.
    pub(super) fn charge(
        &mut self,
        id: AccountId,
        resource: Resource,
        amount: usize,
        part: usize,
    ) -> Result<(), Full> {
        let (mut next, mut more) = (Some(id), amount);
        while more > 0
            && let Some(account) = next.and_then(|id| self.get_mut(id))
        {
            let limit = account.limit(resource) / part;
            let before = *account.used.of(resource);
            let after = before.saturating_add(more);
            if after > limit {
                return Err(account.full());
            }
            more = account.excess_of(after, resource) - account.excess_of(before, resource);
            next = account.parent;
        }
        self.force(id, resource, amount);
        Ok(())
    }

    /// Charges whether there is room or not.
    pub(super) fn force(&mut self, id: AccountId, resource: Resource, amount: usize) {
        self.change(id, resource, |held| held.saturating_add(amount));
    }

    /// Gives back what was charged.
    pub(super) fn release(&mut self, id: AccountId, resource: Resource, amount: usize) {
        self.change(id, resource, |held| {
            debug_assert!(held >= amount, "more is given back than was charged");
            held.saturating_sub(amount)
        });
    }

    /// Changes what an identity holds, and with it what all above it count.
    fn change(&mut self, id: AccountId, resource: Resource, change: impl FnOnce(usize) -> usize) {
        let Some(account) = self.get_mut(id) else { return };
        let before = *account.used.of(resource);
        let after = change(before);
        *account.used.of(resource) = after;
        let counted = (account.excess_of(before, resource), account.excess_of(after, resource));
        let parent = account.parent.unwrap_or(ALL);
        let total = self.total.of(resource);
        *total = (*total + after).saturating_sub(before);
        self.recount(id, parent, resource, counted);
    }

    /// Counts another amount of an identity in an account above it, and in those above that.
    fn recount(
        &mut self,
        id: AccountId,
        parent: AccountId,
        resource: Resource,
        (before, after): (usize, usize),
    ) {
        if before == after {
            return;
        }
        let mut next = Some(parent);
        while let Some(level) = next
            && let Some(account) = self.get_mut(level)
        {
            let used = account.used.of(resource);
            *used = (*used + after).saturating_sub(before);
            next = account.parent;
            if resource == Resource::Queued {
                self.hoarders.remove(&(level, before, id));
                if after > 0 {
                    self.hoarders.insert((level, after, id));
                }
            }
        }
    }

    /// Returns the identity that counts for the most queued bytes of an account that is none.
    pub(super) fn largest(&self, level: AccountId) -> Option<AccountId> {
        let all = (level, 0, ALL)..=(level, usize::MAX, AccountId(u32::MAX));
        self.hoarders.range(all).next_back().map(|(_, _, id)| *id)
    }

    /// Returns the queued bytes of an identity that count for those above it.
    pub(super) fn queued_excess(&self, id: AccountId) -> usize {
        self.get(id).map_or(0, |account| account.excess(Resource::Queued))
    }

    /// Tells whether an identity's messages would have room if another, or it itself, gave so much back.
    pub(super) fn would_fit(
        &mut self,
        id: AccountId,
        amount: usize,
        (other, given_back): (AccountId, usize),
    ) -> bool {
        self.release(other, Resource::Queued, given_back);
        let fits = self.charge(id, Resource::Queued, amount, 1).is_ok();
        if fits {
            self.release(id, Resource::Queued, amount);
        }
        self.force(other, Resource::Queued, given_back);
        fits
    }

    /// Tells whether an identity could be charged so much at all.
    pub(super) fn could_hold(&self, id: AccountId, resource: Resource, amount: usize) -> bool {
        self.get(id).is_some_and(|account| {
            let above = std::iter::successors(account.parent, |id| self.get(*id)?.parent);
            let excess = account.excess_of(amount, resource);
            let mut above = above.filter_map(|id| self.get(id));
            amount <= account.limit(resource) && above.all(|account| excess <= account.limit(resource))
        })
    }

    /// Returns the holdings of all together.
    pub(super) fn in_all(&self) -> Holdings {
        self.total
    }

    /// Counts accounts, but that of all.
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Quota = Quota { connections: 0, sessions: 0, queued_bytes: 0, retained_bytes: 0 };

    fn admission(name: &str, group: Option<&str>, connections: usize) -> Admission<String> {
        let mut admission = Admission::new(name.to_owned());
        admission.bounds.quota.connections = connections;
        admission.group =
            group.map(|name| Group { name: name.into(), quota: Quota { connections: 3, ..NOTHING } });
        admission
    }

    #[test]
    fn bounds_hold_for_each_its_group_and_all() {
        let now = Instant::now();
        let mut accounts = Accounts::new(Quota { connections: 4, ..NOTHING }, now);
        let [a, b] = ["a", "b"].map(|name| accounts.open(&admission(name, Some("key"), 2), now).0);
        let (other, _) = accounts.open(&admission("other", None, 9), now);
        let mut charge = |id| accounts.charge(id, Resource::Connections, 1, 1);
        assert_eq!([charge(a), charge(a), charge(a)], [Ok(()), Ok(()), Err(Full::Own)], "its own bound");
        assert_eq!([charge(b), charge(b)], [Ok(()), Err(Full::Group)], "its group's bound");
        assert_eq!([charge(other), charge(other)], [Ok(()), Err(Full::All)], "the bound of all");
        accounts.release(a, Resource::Connections, 1);
        assert_eq!(accounts.charge(b, Resource::Connections, 1, 1), Ok(()));
        assert_eq!(accounts.charge(other, Resource::Connections, 1, 2), Err(Full::All), "half of it");
    }

    #[test]
    fn accounts_that_hold_nothing_are_closed() {
        let now = Instant::now();
        let mut accounts = Accounts::new(NOTHING, now);
        let (id, _) = accounts.open(&admission("a", Some("key"), 2), now);
        accounts.force(id, Resource::Retained, 5);
        assert!(!accounts.watch_if_idle(id));
        accounts.release(id, Resource::Retained, 5);
        assert!(accounts.watch_if_idle(id) && !accounts.watch_if_idle(id));
        let group = accounts.close_if_idle(id, Some(now)).unwrap();
        assert!(accounts.watch_if_idle(group));
        accounts.close_if_idle(group, Some(now));
        assert_eq!(accounts.len(), 0);
    }

    #[test]
    fn an_identity_takes_its_holdings_along_to_another_group() {
        let now = Instant::now();
        let mut accounts = Accounts::new(Quota { connections: 9, ..NOTHING }, now);
        let (a, _) = accounts.open(&admission("a", Some("old"), 3), now);
        let (b, _) = accounts.open(&admission("b", Some("old"), 3), now);
        let connect = |accounts: &mut Accounts<_>, id| accounts.charge(id, Resource::Connections, 1, 1);
        assert_eq!([a, a, b].map(|id| connect(&mut accounts, id)), [Ok(()); 3]);
        assert_eq!(connect(&mut accounts, b), Err(Full::Group));
        let (same, left) = accounts.open(&admission("a", Some("new"), 4), now);
        assert!(same == a && left.is_some());
        assert_eq!(accounts.open(&admission("a", Some("new"), 4), now), (a, None), "it is there already");
        assert_eq!(
            [a, b, b, a].map(|id| connect(&mut accounts, id)),
            [Ok(()), Ok(()), Ok(()), Err(Full::Group)]
        );
        assert_eq!(accounts.in_all().connections, 6);
        accounts.release(a, Resource::Connections, 3);
        accounts.release(b, Resource::Connections, 3);
        assert_eq!(accounts.in_all(), Holdings::default());
    }
}
