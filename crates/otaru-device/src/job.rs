//! A command on its way from the MQTT session to the worker: only the newest waits.

use core::cell::RefCell;

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use heapless::Vec;
use otaru_format::command::{Command, CommandError, MAX_COMMAND, SCRATCH};

/// A command's bytes as they arrived.
#[derive(PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) payload: Vec<u8, MAX_COMMAND>,
    /// There were more bytes than a command may have.
    oversized: bool,
}

impl Job {
    /// Copies a payload, as far as it can be a command.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let kept = &bytes[..bytes.len().min(MAX_COMMAND)];
        Self { payload: Vec::from_slice(kept).unwrap_or_default(), oversized: bytes.len() > MAX_COMMAND }
    }

    /// Reads the command. `scratch` takes unescaped JSON strings.
    pub(crate) fn command<'a>(&'a self, scratch: &'a mut [u8]) -> Result<Command<'a>, CommandError> {
        if self.oversized {
            return Err(CommandError::TooLong);
        }
        Command::parse(&self.payload, scratch)
    }
}

/// What a newer command does to the one that is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// Ends it.
    Cancel,
    /// Takes its place, and waits in the inbox.
    Update,
}

/// The newest command nobody has taken yet. A burst of a thousand costs one buffer.
pub(crate) struct Inbox {
    newest: RefCell<Option<Job>>,
    arrived: Signal<NoopRawMutex, ()>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self { newest: RefCell::new(None), arrived: Signal::new() }
    }

    pub(crate) fn put(&self, payload: &[u8]) {
        // Empty is what a broker sends when somebody deletes a retained command.
        if payload.is_empty() {
            return;
        }
        *self.newest.borrow_mut() = Some(Job::new(payload));
        self.arrived.signal(());
    }

    /// Puts an older command, unless a newer one waits.
    pub(crate) fn put_older(&self, payload: &[u8]) {
        if self.newest.borrow().is_none() {
            self.put(payload);
        }
    }

    pub(crate) async fn take(&self) -> Job {
        loop {
            if let Some(job) = self.newest.take() {
                return job;
            }
            self.arrived.wait().await;
        }
    }

    /// Waits for a command that is not a repetition of `job` and makes sense; others are passed over.
    pub(crate) async fn takeover(&self, job: &Job) -> Takeover {
        loop {
            if let Some(takeover) = self.look(job) {
                return takeover;
            }
            self.arrived.wait().await;
        }
    }

    fn look(&self, job: &Job) -> Option<Takeover> {
        let mut newest = self.newest.borrow_mut();
        let newer = newest.as_ref()?;
        let takeover = match newer.command(&mut [0; SCRATCH]) {
            Ok(Command::Update(_)) if newer != job => return Some(Takeover::Update),
            Ok(Command::Cancel) => Some(Takeover::Cancel),
            _ => None,
        };
        *newest = None;
        takeover
    }
}
