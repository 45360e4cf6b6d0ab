//! Senders that have not logged in, of whom one address may have so many.

use std::net::IpAddr;
use std::sync::Arc;

use super::counted::AddressCount;
use super::waiting::Wait;
use crate::quotas::QuotaPermit;

/// Somebody who is counted by address until they log in. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Stranger {
    count: AddressCount,
    /// The connection.
    wait: Option<Arc<Wait>>,
}

impl Stranger {
    pub(super) fn counted(count: QuotaPermit<IpAddr>) -> Self {
        Self { count: AddressCount::new(count), wait: None }
    }

    /// The place that they count for.
    pub(super) fn count(&self) -> AddressCount {
        self.count.clone()
    }

    /// The same, on this connection.
    pub(super) fn on(mut self, wait: &Arc<Wait>) -> Self {
        self.wait = Some(Arc::clone(wait));
        self
    }

    /// They logged in, and count no more.
    pub fn is_known(&self) {
        self.count.release();
        if let Some(wait) = &self.wait {
            wait.is_known();
        }
    }
}
