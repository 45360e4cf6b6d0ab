//! One of the places of an address, until it is given back.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::quotas::QuotaPermit;

/// One of the places of an address. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressCount(Arc<Mutex<Option<QuotaPermit<IpAddr>>>>);

impl AddressCount {
    pub(super) fn new(counted: QuotaPermit<IpAddr>) -> Self {
        Self(Arc::new(Mutex::new(Some(counted))))
    }

    /// Gives the place back.
    pub(super) fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
