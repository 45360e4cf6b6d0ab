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
use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::topic::Topics;
use rand_core::RngCore;

use crate::board::{Board, Clock, Health, Link};
use crate::config::{Config, ConfigError};
use crate::job::Inbox;
use crate::link;
use crate::report::{Reports, Room};
use crate::session::Session;
use crate::uplink::Uplink;
use boot::Boot;
use worker::Worker;
pub use workspace::Workspace;

/// Parts of a device that the agent works with.
#[derive(Debug)]
pub struct Io<'a, N, C, F, B, L, H, R> {
    /// Sockets and names.
    pub net: &'a N,
    /// Time.
    pub clock: &'a C,
    /// The whole flash chip.
    pub flash: F,
    /// The chip.
    pub board: B,
    /// Wi-Fi.
    pub link: L,
    /// The application's health check.
    pub health: H,
    /// Randomness for jitter.
    pub rng: R,
    /// Memory for release files.
    pub workspace: &'a mut Workspace,
}

/// The update agent. Make one after [`boot::begin`] and run it for ever.
#[derive(Debug)]
pub struct Agent<'a, N, C, F, B, L, H, R> {
    config: Config<'a>,
    topics: Topics<'a>,
    io: Io<'a, N, C, F, RefCell<B>, L, H, R>,
    boot: Boot,
}

impl<'a, N, C, F, B, L, H, R> Agent<'a, N, C, F, B, L, H, R>
where
    N: TcpConnect + Dns,
    C: Clock,
    F: MultiwriteNorFlash,
    B: Board,
    L: Link,
    H: Health,
    R: RngCore + Clone,
{
    /// Puts the agent together. `boot` is what [`boot::begin`] found.
    ///
    /// # Errors
    /// When the configuration is one that no device can work with. The watchdog is armed: feed it while saying so, or restart,
    /// so that a new image makes room for the old one.
    pub fn new(config: Config<'a>, io: Io<'a, N, C, F, B, L, H, R>, boot: Boot) -> Result<Self, ConfigError> {
        let topics = config.check()?;
        let Io { net, clock, flash, board, link, health, rng, workspace } = io;
        let board = RefCell::new(board);
        Ok(Self { config, topics, io: Io { net, clock, flash, board, link, health, rng, workspace }, boot })
    }

    /// Runs for ever; a restart happens inside, through [`Board::reset`].
    // Everything below borrows: what an async function takes by value stands in its future twice.
    pub async fn run(&mut self) -> Infallible {
        let Self { config, topics, io, boot } = self;
        // A device that has gone back says so in its first report: whoever hears that it is idle may offer it the same again.
        let unsure = boot.trial.is_none() && boot.failed.is_some();
        let reports = Reports::new(boot.identity(config, &*io.board.borrow()), unsure);
        let inbox = Inbox::new();
        let uplink = Uplink::new();
        let mut session = Session {
            net: io.net,
            clock: io.clock,
            rng: io.rng.clone(),
            config,
            topics: *topics,
            reports: &reports,
            inbox: &inbox,
            uplink: &uplink,
        };
        let mut link_rng = io.rng.clone();
        let link = link::keep(&mut io.link, io.clock, &mut link_rng, &uplink);
        let mut worker = Worker {
            net: io.net,
            clock: io.clock,
            config,
            flash: &mut io.flash,
            board: &io.board,
            health: &mut io.health,
            rng: &mut io.rng,
            reports: &reports,
            inbox: &inbox,
            uplink: &uplink,
            boot,
            workspace: io.workspace,
            retry: None,
            written: None,
            unkept: false,
        };
        let watchdog = watchdog_loop(io.clock, &io.board, &reports);
        let (never, ..) = join4(link, worker.run(), session.run(), watchdog).await;
        never
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
