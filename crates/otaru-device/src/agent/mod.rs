//! The agent: three loops in one task.
//!
//! The session (`session.rs`) keeps network and broker and carries messages. The worker below takes one
//! command after another along the way of an update: plan, fetch, write, verify, activate, restart; its steps
//! are `update.rs` and `stream.rs`. The heart feeds the watchdog. A new image begins in [`boot`] and is
//! confirmed or rolled back in `trial.rs`.

pub mod boot;
mod failure;
mod frames;
mod intake;
#[cfg(feature = "lzma")]
mod patch;
mod plan;
mod raw;
mod release;
mod stream;
mod trial;
mod update;
mod workspace;

use core::cell::RefCell;
use core::convert::Infallible;
use core::time::Duration;

use embassy_futures::join::join3;
use embassy_futures::select::{Either, select};
use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::command::{Command, Offer, SCRATCH};
use otaru_format::status::{Code, UpdateState};
use otaru_format::topic::Topics;
use rand_core::RngCore;

use crate::board::{Board, Clock, Health, Link};
use crate::config::Config;
use crate::job::{Inbox, Job, Takeover};
use crate::report::{Reports, Room};
use crate::session::Session;
use crate::uplink::Uplink;
use boot::Boot;
use failure::Failure;
use update::Prepared;
pub use workspace::Workspace;

/// How long a change of state may wait for the broker before the update goes on without it.
const ANNOUNCE: Duration = Duration::from_secs(2);

/// What the agent works with.
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
    pub fn new(config: Config<'a>, io: Io<'a, N, C, F, B, L, H, R>, boot: Boot) -> Self {
        let Io { net, clock, flash, board, link, health, rng, workspace } = io;
        let board = RefCell::new(board);
        Self { config, io: Io { net, clock, flash, board, link, health, rng, workspace }, boot }
    }

    /// Runs for ever; a restart happens inside, through [`Board::reset`].
    ///
    /// # Errors
    /// Only when the device name or base topic cannot be MQTT topics.
    // Everything below borrows: what an async function takes by value stands in its future twice.
    pub async fn run(&mut self) -> Result<Infallible, otaru_format::topic::TopicError> {
        let Self { config, io, boot } = self;
        let topics = Topics::new(config.base, config.device)?;
        // A device that has gone back says so in its first report: whoever hears that it is idle may offer it the same again.
        let unsure = boot.trial.is_none() && boot.failed.is_some();
        let reports = Reports::new(boot.identity(config, &*io.board.borrow()), unsure);
        let inbox = Inbox::new();
        let uplink = Uplink::new();
        let mut session = Session {
            net: io.net,
            clock: io.clock,
            link: &mut io.link,
            rng: io.rng.clone(),
            config,
            topics,
            reports: &reports,
            inbox: &inbox,
            uplink: &uplink,
        };
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
        };
        let (never, _, _) = join3(worker.run(), session.run(), heart(io.clock, &io.board, &reports)).await;
        Ok(never)
    }
}

/// Feeds the watchdog, and takes note of the memory that is left. A program that no longer lets other tasks run stops it, and is reset.
async fn heart<C: Clock, B: Board>(clock: &C, board: &RefCell<B>, reports: &Reports<'_>) -> Infallible {
    loop {
        if let Ok(mut board) = board.try_borrow_mut() {
            board.feed_watchdog();
            reports.measured(clock.now(), Room { heap: board.free_heap(), stack: board.free_stack() });
        }
        clock.sleep(Duration::from_secs(1)).await;
    }
}

/// Takes one command at a time.
struct Worker<'w, N, C, F, B, H, R> {
    net: &'w N,
    clock: &'w C,
    config: &'w Config<'w>,
    flash: &'w mut F,
    board: &'w RefCell<B>,
    health: &'w mut H,
    rng: &'w mut R,
    reports: &'w Reports<'w>,
    inbox: &'w Inbox,
    uplink: &'w Uplink,
    boot: &'w mut Boot,
    workspace: &'w mut Workspace,
}

impl<N, C, F, B, H, R> Worker<'_, N, C, F, B, H, R>
where
    N: TcpConnect + Dns,
    C: Clock,
    F: MultiwriteNorFlash,
    B: Board,
    H: Health,
    R: RngCore,
{
    async fn run(&mut self) -> Infallible {
        self.settle().await;
        self.resume_interrupted().await;
        loop {
            let job = self.inbox.take().await;
            self.handle(&job).await;
        }
    }

    /// Carries out one command, unless another takes its place.
    async fn handle(&mut self, job: &Job) {
        let mut scratch = [0; SCRATCH];
        match job.command(&mut scratch) {
            Ok(Command::Update(offer)) => self.update(job, &offer).await,
            Ok(Command::Cancel) => {
                self.boot.memory.clear_pending(self.flash).await;
                self.reports.line(format_args!("Nothing to cancel."));
            }
            Err(error) => {
                let failure = Failure::from(error);
                self.reports.begin(None);
                self.reports.fault(UpdateState::Refused, failure.code, &failure.detail);
            }
        }
    }

    async fn update(&mut self, job: &Job, offer: &Offer<'_>) {
        let (inbox, reports) = (self.inbox, self.reports);
        let outcome = match select(self.prepare(job, offer), inbox.takeover(job)).await {
            Either::First(Ok(Prepared::Ready)) => self.activate().await,
            Either::First(Ok(Prepared::AlreadyRunning)) => {
                reports.state(UpdateState::Current);
                reports.line(format_args!("Already running this firmware."));
                Ok(())
            }
            Either::First(Err(failure)) => Err(failure),
            // Nothing was activated yet, so the slot's half is simply left.
            Either::Second(Takeover::Cancel) => {
                reports.state(UpdateState::Cancelled);
                reports.line(format_args!("Update cancelled."));
                Ok(())
            }
            Either::Second(Takeover::Update) => {
                reports.line(format_args!("A newer command takes over."));
                return;
            }
        };
        self.boot.memory.clear_pending(self.flash).await;
        if let Err(failure) = outcome {
            let state = if failure.refused { UpdateState::Refused } else { UpdateState::Failed };
            reports.fault(state, failure.code, &failure.detail);
        }
        reports.announce(self.clock, ANNOUNCE).await;
    }

    /// An update that lost power is begun again, a bounded number of times.
    async fn resume_interrupted(&mut self) {
        let Some(pending) = self.boot.memory.load_pending(self.flash).await else { return };
        if pending.attempts > self.config.resumptions {
            self.boot.memory.clear_pending(self.flash).await;
            self.reports.fault(
                UpdateState::Failed,
                Code::Interrupted,
                "the update was interrupted too often; send the command again to retry",
            );
            return;
        }
        log::info!("update: resuming after an interruption ({} so far)", pending.attempts);
        self.inbox.put_older(&pending.payload);
    }
}
