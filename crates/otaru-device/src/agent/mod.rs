//! The agent: four loops in one task.
//!
//! `link.rs` keeps the network. The session (`session.rs`) keeps the broker and carries messages. The worker below takes one
//! command after another along the way of an update: plan, fetch, write, verify, activate, restart; its steps
//! are `update.rs`, `fetch.rs` and `stream.rs`. The watchdog loop feeds the watchdog. A new image begins in [`boot`] and is
//! confirmed or rolled back in `trial.rs`; what the old one makes of a failure is `aftermath.rs`, and `again.rs` where the broker
//! was not reached.

mod aftermath;
mod again;
pub mod boot;
mod failure;
mod fetch;
mod frames;
#[cfg(feature = "lzma")]
mod patch;
mod plan;
mod raw;
mod release;
mod retries;
mod stream;
mod trial;
mod update;
mod workspace;

use core::cell::RefCell;
use core::convert::Infallible;
use core::time::Duration;

use embassy_futures::join::join4;
use embassy_futures::select::{Either, Either3, select, select3};
use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::MultiwriteNorFlash;
use otaru_format::command::{Command, Offer, SCRATCH};
use otaru_format::status::{Code, UpdateState};
use otaru_format::topic::Topics;
use rand_core::RngCore;

use crate::board::{Board, Clock, Health, Link, ResetReason};
use crate::config::{Config, ConfigError};
use crate::history::{CommandId, PassedOver};
use crate::job::{Inbox, Job, Preemption};
use crate::link;
use crate::memory::{Pending, Retry};
use crate::report::{Reports, Room};
use crate::session::Session;
use crate::text;
use crate::uplink::Uplink;
use boot::Boot;
use failure::Failure;
use update::Prepared;
pub use workspace::Workspace;

/// How long a change of state may wait for the broker before the update goes on without it.
const ANNOUNCE: Duration = Duration::from_secs(2);

/// Starts that ended in a crash before an update is given up.
const MAX_CRASHES: u8 = 3;

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

/// Reason for a resting worker to go on.
#[expect(clippy::large_enum_variant, reason = "there is no allocator to put a command apart")]
enum Rest {
    Command(Job),
    /// An image is to be tried once more.
    Trial,
    /// The history has changed, and may be written.
    History,
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
    /// The trial that is to be repeated.
    retry: Option<Retry>,
    /// When a command was written to flash last, by the clock.
    written: Option<Duration>,
    /// Whether the history has changed since it was written.
    unkept: bool,
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
        *self.inbox.history.borrow_mut() = self.boot.memory.load_history(self.flash).await;
        self.settle().await;
        let mut interrupted = self.resume_interrupted().await;
        loop {
            let job = match interrupted.take() {
                Some(job) => job,
                None => match self.rest().await {
                    Rest::Command(job) => job,
                    Rest::Trial => {
                        self.try_again().await;
                        continue;
                    }
                    Rest::History => {
                        self.keep_history().await;
                        continue;
                    }
                },
            };
            // In one place: each would have room of its own for the largest of futures, here and on the stack.
            self.handle(&job).await;
        }
    }

    /// Waits for something to do.
    async fn rest(&self) -> Rest {
        let trial = again::due(self.retry.as_ref(), self.reports, self.clock);
        let history = async {
            match self.unkept {
                true => self.clock.sleep(self.pause_left()).await,
                false => core::future::pending().await,
            }
        };
        match select3(self.inbox.take(), trial, history).await {
            Either3::First(job) => Rest::Command(job),
            Either3::Second(()) => Rest::Trial,
            Either3::Third(()) => Rest::History,
        }
    }

    /// Carries out one command, unless another takes its place.
    async fn handle(&mut self, job: &Job) {
        let mut scratch = [0; SCRATCH];
        match job.command(&mut scratch) {
            Ok(Command::Update(offer)) => {
                if self.counts(job, &offer) {
                    self.update(job, &offer).await;
                }
            }
            Ok(Command::Cancel) => self.cancel().await,
            Err(error) => {
                let failure = Failure::from(error);
                self.reports.begin(None);
                self.reports.fault(UpdateState::Refused, failure.code, &failure.detail);
            }
        }
        self.settled(job);
    }

    /// Lets the session acknowledge a command.
    fn settled(&self, job: &Job) {
        self.inbox.settle(job);
        self.reports.wake();
    }

    /// Whether a command is to be followed; a person is told if it is not.
    fn counts(&self, job: &Job, offer: &Offer<'_>) -> bool {
        let mut history = self.inbox.history.borrow_mut();
        let why = match history.judge(job.id(), job.origin, offer.order) {
            Ok(()) if job.origin.is_copy() && self.would_loop() => PassedOver::GivenUp.as_str(),
            Ok(()) if self.waits_for(job) => {
                "Passed over: a copy of the command whose image is to be tried again."
            }
            Ok(()) => return true,
            Err(why) => {
                if why == PassedOver::Superseded {
                    history.supersede(job.id(), true);
                }
                why.as_str()
            }
        };
        self.reports.line(format_args!("{why}"));
        false
    }

    /// Whether a copy of a command may be what brought this start about, where no memory tells.
    fn would_loop(&self) -> bool {
        let reason = self.board.borrow().reset_reason();
        let went_down = reason.is_crash() || reason == ResetReason::Brownout || self.boot.failed.is_some();
        went_down && !self.boot.memory.is_there()
    }

    async fn cancel(&mut self) {
        let pending = self.boot.memory.load_pending(self.flash).await.map(|pending| pending.id());
        self.boot.memory.clear_pending(self.flash).await;
        match self.drop_retry().await.or(pending) {
            Some(command) => self.cancelled(command).await,
            None => self.reports.line(format_args!("Nothing to cancel.")),
        }
    }

    /// A command is cancelled, and its copies with it.
    async fn cancelled(&mut self, command: CommandId) {
        self.reports.state(UpdateState::Cancelled);
        self.reports.line(format_args!("Update cancelled."));
        self.inbox.history.borrow_mut().given_up = Some(command);
        self.keep_history().await;
    }

    async fn update(&mut self, job: &Job, offer: &Offer<'_>) {
        let waiting = self.retry.take();
        // If its trials were counted before, they are from now on counted anew.
        self.boot.memory.end_retry(self.flash, Some(job.id())).await;
        let (inbox, reports) = (self.inbox, self.reports);
        let mut before = inbox.history.borrow().clone();
        inbox.begin(job, offer.order);
        let outcome = match select(self.prepare(job, offer), inbox.preempted(job)).await {
            Either::First(Ok(Prepared::Ready)) => self.activate().await,
            Either::First(Ok(Prepared::AlreadyRunning)) => {
                reports.state(UpdateState::Current);
                reports.line(format_args!("Already running this firmware."));
                Ok(())
            }
            Either::First(Err(failure)) => Err(failure),
            // Nothing was activated yet, so the slot's half is simply left.
            Either::Second(Preemption::Cancel) => {
                self.boot.memory.clear_pending(self.flash).await;
                self.cancelled(job.id()).await;
                Ok(())
            }
            Either::Second(Preemption::Update) => {
                reports.line(format_args!("A newer command takes over."));
                self.drop_retry().await;
                return;
            }
        };
        self.boot.memory.clear_pending(self.flash).await;
        let refused = outcome.as_ref().is_err_and(|failure| failure.refused);
        if outcome.is_err() {
            // An order is trusted once firmware has come of it: it bars all that are lower.
            inbox.history.borrow_mut().order = before.order;
        }
        if refused {
            // What was not taken replaces nothing.
            before.refused = Some(job.id());
            *inbox.history.borrow_mut() = before;
            self.retry = waiting.filter(|waiting| waiting.command != Some(job.id()));
        } else {
            self.drop_retry().await;
        }
        if let Err(failure) = outcome {
            let state = if refused { UpdateState::Refused } else { UpdateState::Failed };
            reports.fault(state, failure.code, &failure.detail);
        }
        reports.announce(self.clock, ANNOUNCE).await;
        self.keep_history().await;
    }

    /// Takes up an update again that a restart interrupted, a bounded number of times, and fewer where the restart was a crash.
    async fn resume_interrupted(&mut self) -> Option<Job> {
        let mut pending = self.boot.memory.load_pending(self.flash).await?;
        let reason = self.board.borrow().reset_reason();
        // Whoever switches a device off is no reason to give up. A dip of the voltage may be the update's own doing.
        let counts = !matches!(reason, ResetReason::PowerOn | ResetReason::Usb);
        pending.attempts = pending.attempts.saturating_add(counts.into());
        pending.crashes = pending.crashes.saturating_add(reason.is_crash().into());
        // Those in a trial have a limit of their own.
        let attempts = pending.attempts.saturating_sub(pending.power_losses);
        let end = match &pending {
            Pending { crashes: MAX_CRASHES.., .. } => {
                Some((Code::Crashed, "the update crashed this firmware again and again"))
            }
            _ if attempts > self.config.resumptions || attempts == u8::MAX => {
                Some((Code::Interrupted, "the update was interrupted too often"))
            }
            _ => None,
        };
        if let Some((code, words)) = end {
            self.forbid_copies(Some(pending.id())).await;
            self.boot.memory.clear_pending(self.flash).await;
            let failure = Failure::new(code, format_args!("{words}; publish the command again to retry"));
            self.reports.fault(UpdateState::Failed, code, &failure.detail);
            return None;
        }
        self.boot.memory.store_pending(self.flash, &pending).await;
        text::info(format_args!("update: resuming after an interruption ({attempts} that count so far)"));
        Some(Job::resumed(pending.payload))
    }
}
