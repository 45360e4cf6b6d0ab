//! A command on its way from the MQTT session to the worker: only the newest waits.

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use heapless::Vec;
use otaru_format::command::{Command, CommandError, MAX_COMMAND};

/// A command's bytes as they arrived.
#[derive(Clone, PartialEq, Eq)]
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
        if self.oversized { Err(CommandError::TooLong) } else { Command::parse(&self.payload, scratch) }
    }
}

impl Job {
    /// Whether it can be read.
    pub(crate) fn is_command(&self) -> bool {
        self.command(&mut [0; MAX_COMMAND]).is_ok()
    }

    /// Whether it cancels what goes on.
    pub(crate) fn is_cancel(&self) -> bool {
        matches!(self.command(&mut [0; MAX_COMMAND]), Ok(Command::Cancel))
    }
}

/// The newest command nobody has taken yet. A burst of a thousand costs one buffer.
pub(crate) struct Inbox {
    newest: Signal<NoopRawMutex, Job>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self { newest: Signal::new() }
    }

    pub(crate) fn put(&self, payload: &[u8]) {
        // Empty is what a broker sends when somebody deletes a retained command.
        if payload.is_empty() {
            return;
        }
        self.newest.signal(Job::new(payload));
    }

    pub(crate) async fn take(&self) -> Job {
        self.newest.wait().await
    }
}
