//! A command on its way from the MQTT session to the worker: only the newest waits.

use core::cell::{Cell, RefCell};

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use heapless::Vec;
use otaru_format::command::{Command, CommandError, MAX_COMMAND, SCRATCH};

use crate::history::{CommandId, History, Origin};
use crate::text;

/// A command's bytes as they arrived.
pub(crate) struct Job {
    pub(crate) payload: Vec<u8, MAX_COMMAND>,
    pub(crate) origin: Origin,
    /// The command that waited in its place and was never begun.
    pub(crate) replaced: Option<(CommandId, Origin)>,
    /// There were more bytes than a command may have.
    oversized: bool,
    number: u32,
}

impl Job {
    /// A command from before a restart.
    pub(crate) const fn resumed(payload: Vec<u8, MAX_COMMAND>) -> Self {
        Self { payload, origin: Origin::Resumed, replaced: None, oversized: false, number: 0 }
    }

    /// Reads the command. `scratch` takes unescaped JSON strings.
    pub(crate) fn command<'a>(&'a self, scratch: &'a mut [u8]) -> Result<Command<'a>, CommandError> {
        if self.oversized {
            return Err(CommandError::TooLong);
        }
        Command::parse(&self.payload, scratch)
    }

    /// Identity of the command, by its bytes.
    pub(crate) fn id(&self) -> CommandId {
        CommandId::of(&self.payload)
    }
}

/// Effect of a newer command on the one that is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preemption {
    /// Ends it.
    Cancel,
    /// Takes its place, and waits in the inbox.
    Update,
}

/// The newest command nobody has taken yet. A burst of a thousand costs one buffer.
///
/// A command is settled once it was remembered, refused or passed over: from then on the broker need not keep it.
pub(crate) struct Inbox {
    newest: RefCell<Option<Job>>,
    arrived: Signal<NoopRawMutex, ()>,
    /// Commands that were put in.
    count: Cell<u32>,
    /// The last command that was settled; those before it are too.
    settled: Cell<u32>,
    /// Commands that were followed earlier.
    pub(crate) history: RefCell<History>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self {
            newest: RefCell::new(None),
            arrived: Signal::new(),
            count: Cell::new(0),
            settled: Cell::new(0),
            history: RefCell::new(History::new()),
        }
    }

    /// Puts a command in place of the one that waits; gives back its number.
    pub(crate) fn put(&self, payload: &[u8], origin: Origin) -> u32 {
        // Empty is what a broker sends when somebody deletes a retained command.
        if payload.is_empty() {
            return self.settled.get();
        }
        let mut job = Job {
            payload: Vec::from_slice(&payload[..payload.len().min(MAX_COMMAND)]).unwrap_or_default(),
            origin,
            replaced: None,
            oversized: payload.len() > MAX_COMMAND,
            number: self.count.get().wrapping_add(1),
        };
        let mut newest = self.newest.borrow_mut();
        if let Some(waiting) = &*newest {
            // What is not to be followed must not push out what is.
            if !self.replaces(&job) {
                return self.settled.get();
            }
            // Retained on both topics, say: the next time they may come in the other order.
            job.replaced = Some((waiting.id(), waiting.origin));
        }
        let number = job.number;
        self.count.set(number);
        *newest = Some(job);
        self.arrived.signal(());
        number
    }

    /// Notes that a command is followed now.
    pub(crate) fn begin(&self, job: &Job, order: Option<u64>) {
        let mut history = self.history.borrow_mut();
        if let Some((replaced, origin)) = job.replaced.filter(|(replaced, _)| *replaced != job.id()) {
            history.supersede(replaced, origin == Origin::Retained);
        }
        history.follow(job.id(), job.origin, order);
    }

    /// Notes that a command was remembered, refused or passed over, and so every one before it.
    pub(crate) fn settle(&self, job: &Job) {
        if !self.is_settled(job.number) {
            self.settled.set(job.number);
        }
    }

    /// Whether the command of this number was settled.
    pub(crate) fn is_settled(&self, number: u32) -> bool {
        self.settled.get().wrapping_sub(number) < u32::MAX / 2
    }

    pub(crate) async fn take(&self) -> Job {
        loop {
            if let Some(job) = self.newest.take() {
                return job;
            }
            self.arrived.wait().await;
        }
    }

    /// Waits for a command that counts and is not a repetition of `job`; others are dropped.
    pub(crate) async fn preempted(&self, job: &Job) -> Preemption {
        loop {
            if let Some(preemption) = self.look(job) {
                return preemption;
            }
            self.arrived.wait().await;
        }
    }

    /// Whether a command may take the place of another that waits.
    fn replaces(&self, job: &Job) -> bool {
        let why = match job.command(&mut [0; SCRATCH]) {
            Ok(Command::Cancel) => return true,
            Ok(Command::Update(offer)) => {
                match self.history.borrow().interrupts(job.id(), job.origin, offer.order) {
                    Ok(()) => return true,
                    Err(why) => why.as_str(),
                }
            }
            Ok(Command::Report(_)) | Err(_) => "Passed over: not a command.",
        };
        log::info!("update: {why}");
        false
    }

    fn look(&self, job: &Job) -> Option<Preemption> {
        let mut newest = self.newest.borrow_mut();
        let newer = newest.as_ref()?;
        let preemption = match newer.command(&mut [0; SCRATCH]) {
            Ok(Command::Update(offer)) if newer.payload != job.payload => {
                let verdict = self.history.borrow().interrupts(newer.id(), newer.origin, offer.order);
                match verdict {
                    Ok(()) => return Some(Preemption::Update),
                    Err(why) => text::info(format_args!("update: {}", why.as_str())),
                }
                None
            }
            Ok(Command::Cancel) => Some(Preemption::Cancel),
            _ => None,
        };
        self.settle(newer);
        *newest = None;
        preemption
    }
}
