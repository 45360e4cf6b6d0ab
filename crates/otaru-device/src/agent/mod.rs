//! The agent: four loops in one task.
//!
//! `link.rs` keeps the network. The session (`session.rs`) keeps the broker and carries messages. The worker (`commands.rs`) takes
//! one command after another along the way of an update: plan, fetch, write, verify, activate, restart; its steps
//! are `update.rs`, `fetch.rs` and `stream.rs`. The watchdog loop feeds the watchdog. A new image begins in [`boot`] and is
//! confirmed or rolled back in `trial.rs`; what the old one makes of a failure is `aftermath.rs`, and `again.rs` where the broker
//! was not reached.

mod aftermath;
mod again;
pub(crate) mod boot;
mod commands;
mod failure;
mod fetch;
mod frames;
#[cfg(feature = "lzma")]
mod page;
#[cfg(feature = "lzma")]
mod patch;
mod plan;
mod raw;
mod release;
mod retries;
mod stream;
mod trial;
mod unfit;
mod update;
mod worker;
mod workspace;

use core::cell::RefCell;
use core::convert::Infallible;
use core::time::Duration;

use embassy_futures::join::join4;
use otaru_format::mqtt::{Next, VersionChoice};
use otaru_format::topic::Topics;
use rand_core::RngCore as _;

use crate::board::{Board, Clock};
use crate::config::{Config, ConfigError};
use crate::dial::Dialer;
use crate::job::Inbox;
use crate::link;
use crate::platform::{Parts, Platform};
use crate::report::{Reports, Room};
use crate::session::Session;
use crate::talk::{Carried, Ends};
use crate::tls::Tls as _;
use crate::uplink::Uplink;
use boot::Boot;
use worker::Worker;
pub use workspace::Workspace;

/// The update agent. Make one after [`begin`](crate::begin) and run it for ever.
pub struct Agent<'a, P: Platform> {
    config: Config<'a>,
    topics: Topics<'a>,
    dialer: Dialer<'a, P::Net, P::Tls>,
    clock: &'a P::Clock,
    flash: P::Flash,
    board: RefCell<P::Board>,
    link: P::Link,
    health: P::Health,
    rng: P::Rng,
    workspace: &'a mut Workspace,
    boot: Boot,
}

impl<'a, P: Platform> Agent<'a, P> {
    /// Puts the agent together. `boot` is what [`begin`](crate::begin) found, `workspace` the agent's buffers.
    ///
    /// # Errors
    /// Returns an error if no device can work with this configuration. The watchdog is armed: feed it while reporting the error, or
    /// restart, so that an image on trial is rolled back.
    pub fn new(
        config: Config<'a>,
        parts: Parts<'a, P>,
        workspace: &'a mut Workspace,
        boot: Boot,
    ) -> Result<Self, ConfigError> {
        let topics = config.check()?;
        let Parts { net, tls, clock, flash, board, link, health, rng } = parts;
        if config.broker_tls && !tls.is_ready() {
            return Err(ConfigError::NoTls);
        }
        let dialer = Dialer { net, tls };
        let board = RefCell::new(board);
        Ok(Self { config, topics, dialer, clock, flash, board, link, health, rng, workspace, boot })
    }

    /// Runs for ever; a restart happens inside, through [`Board::reset`].
    // Everything below borrows: what an async function takes by value stands in its future twice.
    pub async fn run(&mut self) -> Infallible {
        // A device that has gone back says so in its first report: whoever hears that it is idle may offer it the same again.
        let unsure = self.boot.trial.is_none() && self.boot.failed.is_some();
        // Of a clone, so that nothing else depends on whether there was a memory.
        let mut rng = self.rng.clone();
        let fresh = u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32());
        let start = self.boot.memory.count_start(&mut self.flash, fresh).await;
        let trusts = self.dialer.tls.report().trusts;
        let identity = self.boot.identity(&self.config, &*self.board.borrow(), trusts);
        let reports = Reports::new(identity, start, unsure);
        let inbox = Inbox::new();
        let uplink = Uplink::new();
        let ends = Ends {
            clock: self.clock,
            config: &self.config,
            topics: self.topics,
            reports: &reports,
            inbox: &inbox,
            uplink: &uplink,
        };
        let versions = VersionChoice::new(self.config.mqtt);
        let mut session = Session::<P> {
            dialer: self.dialer,
            rng: self.rng.clone(),
            ends,
            versions,
            next: Next::Later,
            carried: Carried::default(),
        };
        let mut link_rng = self.rng.clone();
        let link = link::keep(&mut self.link, self.clock, &mut link_rng, &uplink);
        let mut worker = Worker::<P> {
            dialer: self.dialer,
            clock: self.clock,
            config: &self.config,
            flash: &mut self.flash,
            board: &self.board,
            health: &mut self.health,
            rng: &mut self.rng,
            reports: &reports,
            inbox: &inbox,
            uplink: &uplink,
            boot: &mut self.boot,
            workspace: self.workspace,
            retry: None,
            written: None,
            unkept: false,
        };
        let watchdog = watchdog_loop(self.clock, &self.board, &reports);
        let (never, ..) = join4(link, worker.run(), session.run(), watchdog).await;
        never
    }
}

impl<P: Platform> core::fmt::Debug for Agent<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Agent").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Feeds the watchdog, for ever, and takes note of the memory that is left. A program that no longer lets other tasks run stops it,
/// and is reset.
async fn watchdog_loop<C: Clock, B: Board>(
    clock: &C,
    board: &RefCell<B>,
    reports: &Reports<'_>,
) -> Infallible {
    loop {
        if let Ok(mut board) = board.try_borrow_mut() {
            board.feed_watchdog();
            reports.measured(clock.now(), Room { heap: board.free_heap(), stack: board.free_stack() });
        }
        clock.sleep(Duration::from_secs(1)).await;
    }
}
