//! Memory for packets of which only a part has come: it counts for whoever sends them, as messages that wait do.

use super::account::{AccountId, Resource};
use super::ids::Link;
use super::state::Router;
use crate::policy::Policy;
use crate::reason::Reason;

/// Memory that is counted for an account until it is given back.
#[derive(Debug)]
#[must_use = "it counts until it is given back"]
pub(crate) struct Reserved {
    account: AccountId,
    bytes: usize,
}

impl<P: Policy> Router<P> {
    /// Counts the bytes of a packet that has begun.
    ///
    /// # Errors
    /// When there is no room for them, or the connection holds its session no longer.
    pub(crate) fn reserve(&mut self, link: Link, bytes: usize) -> Result<Reserved, Reason> {
        let account = self.held(link)?.account;
        let charged = self.accounts.charge(account, Resource::Queued, bytes, 1);
        charged.map_err(|_| Reason::QuotaExceeded)?;
        Ok(Reserved { account, bytes })
    }

    /// Gives it back, once the packet is whole or its connection gone.
    pub(crate) fn give_back(&mut self, reserved: &Reserved, now: std::time::Instant) {
        self.accounts.release(reserved.account, Resource::Queued, reserved.bytes);
        self.watch_account(reserved.account, now);
    }
}
