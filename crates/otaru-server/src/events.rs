//! Changes as they happen, for whoever watches: a page, the command line. Nothing depends on anybody hearing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use otaru_api::Event;
use tokio::sync::broadcast;

/// Number of events that a listener may be behind before it misses some, and is told so.
const BACKLOG: usize = 4_096;

/// Sender of events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    /// The same without what other servers told.
    own: broadcast::Sender<Event>,
    told: Arc<AtomicU64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
            own: broadcast::channel(BACKLOG).0,
            told: Arc::default(),
        }
    }
}

impl Events {
    /// Tells everybody who listens.
    pub fn tell(&self, event: Event) {
        if self.own.receiver_count() > 0 {
            let _ = self.own.send(event.clone());
        }
        self.retell(event);
    }

    /// Tells what another server of the same database told.
    pub fn retell(&self, event: Event) {
        self.told.fetch_add(1, Ordering::Relaxed);
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    /// Returns the number of events since the server started: whoever reads something and listens only later sees by it whether something
    /// happened between.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Listens from now on to what happens at this server.
    pub fn listen_to_own(&self) -> broadcast::Receiver<Event> {
        self.own.subscribe()
    }
}
