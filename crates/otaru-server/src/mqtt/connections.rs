//! Who is connected to the embedded broker just now.
//!
//! A device that restarts leaves a connection that breaks and makes a new one, and the last will of the old may be told after the first
//! word of the new: it says `offline` and is not. The broker knows better.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mqtt5::broker::events::{BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent};

use super::access::Answer;

/// Connections by client id. Counts only where it is told of them, by an embedded broker.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<String, u32>>);

impl Connections {
    /// Whether this client has a connection, or one that is just about to be found broken.
    pub fn has(&self, client: &str) -> bool {
        self.lock().contains_key(client)
    }

    fn came(&self, client: &str) {
        *self.lock().entry(client.to_owned()).or_default() += 1;
    }

    fn went(&self, client: &str) {
        let mut all = self.lock();
        match all.get_mut(client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(client)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the broker tells.
pub(super) struct Attendance(pub(super) std::sync::Arc<Connections>);

impl BrokerEventHandler for Attendance {
    fn on_client_connect(&self, event: ClientConnectEvent) -> Answer<'_, ()> {
        self.0.came(&event.client_id);
        Box::pin(async {})
    }

    fn on_client_disconnect(&self, event: ClientDisconnectEvent) -> Answer<'_, ()> {
        self.0.went(&event.client_id);
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_outlives_the_old_one() {
        let connections = Connections::default();
        connections.came("lamp");
        connections.came("lamp");
        connections.went("lamp");
        assert!(connections.has("lamp"));
        connections.went("lamp");
        assert!(!connections.has("lamp"));
        connections.went("lamp");
        assert!(!connections.has("lamp"));
    }
}
