//! Credentials that end: their client ids may do nothing more, and their connections are ended where the broker lets us.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ending::Endings;
use super::logins::Logins;
use crate::mqtt::EndConnections;
use crate::mqtt::access::Identity;

/// Somebody else's broker, as far as something can be ended there.
pub(super) struct OutsideBroker {
    logins: Arc<Logins>,
    endings: Option<Arc<Endings>>,
}

impl OutsideBroker {
    /// Ends client ids of these, and connections by way of `endings`.
    pub(super) fn new(logins: Arc<Logins>, endings: Option<Arc<Endings>>) -> Self {
        Self { logins, endings }
    }
}

impl EndConnections for OutsideBroker {
    fn end(&self, ended: Vec<Identity>) -> usize {
        let clients = self.logins.end(&ended);
        let count = clients.len();
        if let Some(endings) = &self.endings {
            endings.add(clients);
        }
        count
    }

    /// Retained messages stay: others may have put them at that broker as well.
    fn forget_retained(&self, _: &str) {}

    fn tokens(&self) -> BTreeSet<String> {
        self.logins.tokens()
    }
}
