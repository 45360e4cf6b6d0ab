//! Changes as they happen, for whoever watches: a page, the command line. Nothing depends on anybody hearing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::broadcast;

/// How many events a listener may be behind before it misses some, and is told so.
const BACKLOG: usize = 4_096;

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A device: it appeared, reported, came, went, or was changed.
    Device {
        /// Which.
        id: String,
        /// Its state, as it reports it.
        state: String,
        /// The version it runs.
        version: String,
        /// Whether it can be reached.
        reachable: bool,
        /// Per cent of a download that is under way.
        #[serde(skip_serializing_if = "Option::is_none")]
        progress: Option<u8>,
        /// The trial that comes next, where its new image did not reach the broker and will be tried again.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_trial: Option<u8>,
    },
    /// A deployment came to stand elsewhere.
    Deployment {
        /// In which rollout.
        rollout: u64,
        /// Whose.
        device: String,
        /// `ready`, `waiting`, `active` or an outcome.
        standing: String,
    },
    /// A rollout: its phase, its wave or its counts.
    Rollout {
        /// Which.
        id: u64,
        /// Its phase.
        phase: String,
    },
    /// A release: it was uploaded, changed, or its files were.
    Release {
        /// Which.
        id: i64,
    },
    /// A job in the background went on.
    Job {
        /// Which.
        id: i64,
        /// Of which release.
        release: i64,
        /// `queued`, `running`, `done` or `failed`.
        state: String,
        /// What it is at, or why it failed.
        detail: String,
        /// Per cent of it, where known.
        #[serde(skip_serializing_if = "Option::is_none")]
        progress: Option<u8>,
    },
}

/// Where events go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    told: Arc<AtomicU64>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, told: Arc::default() }
    }
}

impl Events {
    /// Tells everybody who listens.
    pub fn tell(&self, event: Event) {
        self.told.fetch_add(1, Ordering::Relaxed);
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    /// How many there were since the server started: whoever reads something and listens only later sees by it whether something
    /// happened between.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
