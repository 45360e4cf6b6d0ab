//! Parts that all scenes need: the device with its peers, starting it, telling it, and waiting for what comes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::console;
use super::images::{Images, Update, a_copy};
use super::limits::{START, UPDATE};
use super::machine::{self, Emulator, Machine};
use super::memory::{HighWater, Marks, Stack};
use super::peers::{self, Broker, Status, WebServer};

use crate::firmware;

/// Flash offsets of the slots (`firmware/partitions-4mb.csv`).
const SLOTS: [usize; 2] = [firmware::FIRST_SLOT, 0x21_0000];
/// Time between two looks at the stack in an update.
const LOOK: Duration = Duration::from_millis(200);

/// Outcome of a scene in which nothing went wrong.
pub(super) enum Shown {
    Yes,
    /// The emulator cannot play it, for this reason.
    No(&'static str),
}

/// A story, with its firmwares.
pub(super) struct Run<I = Images> {
    // In this order they end: the device first.
    pub(super) machine: Machine,
    pub(super) web: WebServer,
    pub(super) broker: Broker,
    pub(super) images: I,
    pub(super) folder: PathBuf,
    /// Time that an update took until it was confirmed.
    pub(super) took: Duration,
    pub(super) memory: HighWater,
}

impl Run {
    /// Begins the story without TLS.
    pub(super) fn begin(folder: &Path, emulator: Emulator, images: Images) -> Result<Self> {
        let broker = Broker::start(folder, images.port, "")?;
        let flash = images.flash.clone();
        Self::with(folder, emulator, images, &flash, broker)
    }
}

impl<I> Run<I> {
    /// Begins a story with a board that has this on its flash.
    pub(super) fn with(
        folder: &Path,
        emulator: Emulator,
        images: I,
        flash: &Path,
        broker: Broker,
    ) -> Result<Self> {
        let web = WebServer::start(folder)?;
        let flash = a_copy(flash, &folder.join("flash.bin"))?;
        let machine = Machine::new(emulator, flash, folder.join("console.log"))?;
        let (folder, memory) = (folder.to_owned(), HighWater::default());
        Ok(Self { machine, web, broker, images, folder, took: UPDATE, memory })
    }

    /// Starts the emulator anew, so that each part of the story begins with a power-on.
    pub(super) fn cold_start(&mut self) -> Result<()> {
        self.machine.cut()?;
        self.broker.forget()?;
        self.machine.mark();
        self.machine.power_on()?;
        self.wait(START, "a cold start", |status| !status.version.is_empty())?;
        Ok(())
    }

    /// Puts the flash chip aside; [`Self::take_back`] puts it in again.
    pub(super) fn put_aside(&mut self) -> Result<PathBuf> {
        self.machine.cut()?;
        a_copy(self.machine.flash(), &self.folder.join("flash-aside.bin"))
    }

    /// Puts in the flash chip that was put aside, for whoever spoiled the one that is in.
    pub(super) fn take_back(&mut self, aside: &Path) -> Result<()> {
        self.machine.cut()?;
        fs::copy(aside, self.machine.flash())?;
        Ok(())
    }

    /// Tells the device where the file is, and waits until it runs it and it is confirmed.
    pub(super) fn update_to(&self, update: &Update) -> Result<Status> {
        self.publish(update.file)?;
        self.confirmed(update)
    }

    /// Waits until an image runs and is confirmed, then looks at the flash.
    pub(super) fn confirmed(&self, update: &Update) -> Result<Status> {
        let status = self.wait(UPDATE, "the confirmation", |status| is_confirmed(status, update))?;
        self.stands(update, &status)?;
        Ok(status)
    }

    /// The same after power cuts, which may have come right after the confirmation.
    pub(super) fn settled(&self, update: &Update) -> Result<()> {
        let status = match self.broker.last().filter(|status| is_confirmed(status, update)) {
            Some(status) => status,
            None => self.wait(UPDATE, "the end of the update", |status| is_confirmed(status, update))?,
        };
        self.stands(update, &status)
    }

    /// Whether the slot holds the image byte for byte, and the report names it.
    fn stands(&self, update: &Update, status: &Status) -> Result<()> {
        let flash = fs::read(self.machine.flash())?;
        let at = SLOTS.get(status.slot).with_context(|| format!("slot {}", status.slot))?;
        let slot = flash.get(*at..at + update.image.len()).unwrap_or_default();
        ensure!(
            slot == update.image,
            "slot {} does not hold {} as it was built",
            status.slot,
            update.version
        );
        let digest = peers::sha256(&update.image);
        ensure!(status.image == digest, "the device reports image {}, it was {digest}", status.image);
        Ok(())
    }

    pub(super) fn publish(&self, file: &str) -> Result<()> {
        self.broker.publish(&format!("http://{}:{}/{file}", machine::HOST, self.web.port))
    }

    pub(super) fn wait(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        match self.broker.wait(limit, wanted)? {
            Some(status) => Ok(status),
            None => bail!(
                "{what}: nothing after {} s. The last report: {}. The console's end:\n{}",
                limit.as_secs(),
                self.broker.last().map_or_else(|| "none".to_owned(), |status| status.text),
                self.machine.console_end()
            ),
        }
    }

    /// Waits for a line of the console with all of these in it.
    pub(super) fn wait_line(&self, limit: Duration, what: &str, parts: &[&str]) -> Result<()> {
        match self.machine.wait_line(limit, parts)? {
            true => Ok(()),
            false => bail!(
                "{what}: no line with {parts:?} after {} s. The console's end:\n{}",
                limit.as_secs(),
                self.machine.console_end()
            ),
        }
    }

    pub(super) fn console(&self, part: &str) -> Result<()> {
        console::compare(part, &self.machine.console_since_mark()?)
    }

    /// Looks at stack and heap of the program in `elf`, which runs.
    pub(super) fn look(&mut self, part: &'static str, elf: &Path) -> Result<()> {
        let stack = Stack::of(elf)?;
        let stack_left = self.machine.stack_left(stack)?;
        let heap_left = self.broker.last().and_then(|status| status.free_heap);
        self.memory.add(part, Marks { stack: stack.size(), stack_left, heap_left });
        Ok(())
    }

    /// Looks at the stack of the program in `elf` all through an update by it, until it restarts.
    pub(super) fn look_through_update(&mut self, part: &'static str, elf: &Path) -> Result<()> {
        let stack = Stack::of(elf)?;
        let end = Instant::now() + UPDATE;
        let mut marks = Marks { stack: stack.size(), stack_left: stack.size(), heap_left: None };
        let restarts = |status: &Status| status.state == "restarting" || status.state == "trial";
        loop {
            let last = self.broker.wait(LOOK, restarts)?;
            if last.is_none() {
                marks.stack_left = marks.stack_left.min(self.machine.stack_left(stack)?);
            }
            let heap = self.broker.last().and_then(|status| status.free_heap);
            marks.heap_left = [marks.heap_left, heap].into_iter().flatten().min();
            if last.is_some() {
                break;
            }
            ensure!(Instant::now() < end, "{part}: no restart after {} s", UPDATE.as_secs());
        }
        self.memory.add(part, marks);
        Ok(())
    }

    /// Prints how deep the stack went and how full the heap was; fails where that was too much.
    pub(super) fn judge_memory(&self) -> Result<()> {
        self.memory.judge()
    }
}

pub(super) fn is_confirmed(status: &Status, update: &Update) -> bool {
    status.version == update.version && status.confirmed
}

pub(super) fn said(since: Instant, what: &str) {
    println!("{:>6.1} s  {what}", since.elapsed().as_secs_f64());
}
