//! Logins that are being decided on, and identities that ended meanwhile: a login that began before an end does not outlive it.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// Ends, by the epoch that they closed, as long as a login of it or of an earlier one is under way.
    ends: BTreeMap<u64, Ended<I>>,
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

    /// Closes a login; returns whether this identity, if it was found out, may come in.
    pub(super) fn finish(&mut self, ticket: &Ticket, identity: Option<&I>) -> bool {
        let ended =
            identity.is_some_and(|identity| self.ends.range(ticket.0..).any(|(_, end)| end(identity)));
        if let Some(count) = self.open.get_mut(&ticket.0) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&ticket.0);
            }
        }
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX);
        self.ends.retain(|epoch, _| *epoch >= oldest);
        !ended
    }

    pub(super) fn end(&mut self, ended: Ended<I>) {
        if !self.open.is_empty() {
            self.ends.insert(self.epoch, ended);
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
        logins.end(Arc::new(|who| *who == "a"));
        let late = logins.begin();
        assert!(!logins.finish(&early, Some(&"a")));
        assert!(logins.finish(&other, Some(&"b")));
        assert_eq!(logins.ends.len(), 1);
        assert!(logins.finish(&unknown, None));
        assert!(logins.finish(&late, Some(&"a")), "it was decided on after the end");
        assert_eq!((logins.ends.len(), logins.len()), (0, 0));
        logins.end(Arc::new(|_| true));
        assert!(logins.ends.is_empty(), "nothing is kept when nobody is logging in");
    }
}
