//! A command on its way from the MQTT session to the worker: only the newest waits.

use core::cell::Cell;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use heapless::Vec;
use otaru_format::command::{Command, CommandError, MAX_COMMAND};

/// A command's bytes as they arrived.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) payload: Vec<u8, MAX_COMMAND>,
}

impl Job {
    /// Copies a payload; `None` when it is too long to be a command.
    pub(crate) fn new(payload: &[u8]) -> Option<Self> {
        Vec::from_slice(payload).ok().map(|payload| Self { payload })
    }

    /// Reads the command. `scratch` takes unescaped JSON strings.
    pub(crate) fn command<'a>(&'a self, scratch: &'a mut [u8]) -> Result<Command<'a>, CommandError> {
        Command::parse(&self.payload, scratch)
    }
}

/// The newest command nobody has taken yet. A burst of a thousand costs one buffer.
pub(crate) struct Inbox {
    newest: Signal<NoopRawMutex, Job>,
    oversized: Cell<u32>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self { newest: Signal::new(), oversized: Cell::new(0) }
    }

    pub(crate) fn put(&self, payload: &[u8]) {
        match Job::new(payload) {
            Some(job) => self.newest.signal(job),
            None => self.oversized.set(self.oversized.get().wrapping_add(1)),
        }
    }

    pub(crate) async fn take(&self) -> Job {
        self.newest.wait().await
    }
}
