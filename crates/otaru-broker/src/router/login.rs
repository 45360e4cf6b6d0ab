//! Logins that are being decided on, and identities that ended meanwhile: a login that began before an end does not outlive it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reason::Reason;

/// Description of the identities that an end was for.
pub(crate) type Ended<I> = Arc<dyn Fn(&I) -> bool + Send + Sync>;

/// A login that is being decided on; to be given back to [`Logins::finish`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket(u64);

/// Logins under way.
pub(super) struct Logins<I> {
    /// Ends so far.
    epoch: u64,
    /// Logins under way, by the epoch in which they began.
    open: BTreeMap<u64, usize>,
    /// Ends and their reasons, by the epoch that they closed, as long as a login of it or of an earlier one is under way.
    ends: BTreeMap<u64, (Ended<I>, Reason)>,
}

impl<I> Default for Logins<I> {
    fn default() -> Self {
        Self { epoch: 0, open: BTreeMap::new(), ends: BTreeMap::new() }
    }
}

impl<I> Logins<I> {
    pub(super) fn begin(&mut self) -> Ticket {
        *self.open.entry(self.epoch).or_default() += 1;
        Ticket(self.epoch)
    }

    /// Closes a login of this identity, if it was found out.
    ///
    /// # Errors
    /// When the identity ended meanwhile: the reason of the last end.
    pub(super) fn finish(&mut self, ticket: &Ticket, identity: Option<&I>) -> Result<(), Reason> {
        let mut ends = self.ends.range(ticket.0..).rev();
        let end = identity.and_then(|identity| ends.find(|(_, (ended, _))| ended(identity)));
        let outcome = end.map_or(Ok(()), |(_, (_, reason))| Err(*reason));
        if let Some(count) = self.open.get_mut(&ticket.0) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&ticket.0);
            }
        }
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX);
        self.ends.retain(|epoch, _| *epoch >= oldest);
        outcome
    }

    pub(super) fn end(&mut self, ended: Ended<I>, reason: Reason) {
        if !self.open.is_empty() {
            self.ends.insert(self.epoch, (ended, reason));
            self.epoch += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_began_before_an_end_does_not_outlive_it() {
        let mut logins = Logins::<&str>::default();
        let [early, other, unknown] = [logins.begin(), logins.begin(), logins.begin()];
        let twice = logins.begin();
        logins.end(Arc::new(|who| *who == "a"), Reason::NotAuthorized);
        let late = logins.begin();
        assert_eq!(logins.finish(&early, Some(&"a")), Err(Reason::NotAuthorized));
        assert_eq!(logins.finish(&other, Some(&"b")), Ok(()));
        assert_eq!(logins.ends.len(), 1);
        assert_eq!(logins.finish(&unknown, None), Ok(()));
        assert_eq!(logins.finish(&late, Some(&"a")), Ok(()), "it was decided on after the end");
        let later = logins.begin();
        logins.end(Arc::new(|_| true), Reason::ServerShuttingDown);
        assert_eq!(logins.finish(&later, Some(&"b")), Err(Reason::ServerShuttingDown));
        assert_eq!(logins.finish(&twice, Some(&"a")), Err(Reason::ServerShuttingDown), "the last");
        assert_eq!((logins.ends.len(), logins.len()), (0, 0));
        logins.end(Arc::new(|_| true), Reason::NotAuthorized);
        assert!(logins.ends.is_empty(), "nothing is kept when nobody is logging in");
    }
}
