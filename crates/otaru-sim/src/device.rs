//! A virtual ESP32: flash, bootloader, reset and watchdog around the very agent that runs on the chip.
//!
//! [`VirtualDevice::run`] is the life of a board: the bootloader chooses an image, the image runs until it
//! restarts, crashes, hangs or loses power, and so on. What an image does besides the agent is its
//! [`Behaviour`].

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use embedded_nal_async::{Dns, TcpConnect};
use embedded_storage_async::nor_flash::ReadNorFlash;
use otaru_device::{
    Agent, Board, Boot, Clock, Config, Health, Link, Parts, Platform, ResetReason, Unhealthy, Workspace,
};
use otaru_format::chip::Chip;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::Notify;

use crate::bootloader::{self, BootloaderKind};
use crate::clock::SimClock;
use crate::firmware::{Behaviour, behaviour_of};
use crate::flash::Flash;
use crate::tls::HostTls;

/// Bytes of an image that are read to learn its behaviour.
const MARKER_WINDOW: usize = 1024;

/// State that survives a reset but not a loss of power: RTC memory and registers.
#[derive(Debug, Default)]
struct Rtc {
    words: RefCell<Option<String>>,
    reason: Cell<Option<ResetReason>>,
    restart: Notify,
    watchdog: Cell<Option<(Duration, Duration)>>,
    /// Something holds the processor: no task runs any more.
    seized: Cell<bool>,
    /// Number of restarts since it was switched on.
    restarts: Cell<u64>,
}

/// The chip as the agent sees it during one boot.
struct SimBoard {
    rtc: Rc<Rtc>,
    clock: SimClock,
    chip: Chip,
    facts: ChipFacts,
    reason: ResetReason,
    running: u32,
    encrypted: bool,
}

/// Bytes of heap that a virtual device says were free.
pub const FREE_HEAP: u32 = 117_040;

impl Board for SimBoard {
    fn encrypts_flash(&self) -> bool {
        self.encrypted
    }

    fn reset_reason(&self) -> ResetReason {
        self.reason
    }

    fn running_address(&self) -> u32 {
        self.running
    }

    fn chip(&self) -> Chip {
        self.chip
    }

    fn chip_revision(&self) -> Option<u16> {
        self.facts.revision
    }

    fn flash_size(&self) -> Option<u32> {
        self.facts.flash_size
    }

    fn arm_watchdog(&mut self, timeout: Duration) {
        self.rtc.watchdog.set(Some((self.clock.now() + timeout, timeout)));
    }

    fn feed_watchdog(&mut self) {
        if let Some((_, timeout)) = self.rtc.watchdog.get() {
            self.arm_watchdog(timeout);
        }
    }

    fn take_crash_message<'b>(&mut self, buf: &'b mut [u8]) -> Option<&'b str> {
        let words = self.rtc.words.borrow_mut().take()?;
        let mut end = words.len().min(buf.len());
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        buf[..end].copy_from_slice(&words.as_bytes()[..end]);
        std::str::from_utf8(&buf[..end]).ok()
    }

    fn leave_message(&mut self, text: &str) {
        *self.rtc.words.borrow_mut() = Some(text.to_owned());
    }

    fn free_heap(&self) -> Option<u32> {
        Some(FREE_HEAP)
    }

    async fn reset(&mut self) -> Infallible {
        self.rtc.reason.set(Some(ResetReason::Software));
        self.rtc.restart.notify_one();
        std::future::pending().await
    }
}

/// The health check of an image with this behaviour.
struct SimHealth(Behaviour, Rc<Rtc>);

impl Health for SimHealth {
    async fn check(&mut self) -> Result<(), Unhealthy> {
        match self.0 {
            Behaviour::Unhealthy => Err("sensor does not answer".into()),
            Behaviour::Blocks => {
                self.1.seized.set(true);
                std::future::pending().await
            }
            _ => Ok(()),
        }
    }
}

/// Time that an image works which seizes up.
const SEIZES_AFTER: Duration = Duration::from_secs(3600);

/// Runs a program's tasks until one of them holds the processor.
async fn scheduled<T>(rtc: &Rtc, program: impl Future<Output = T>) -> T {
    let mut program = std::pin::pin!(program);
    std::future::poll_fn(|cx| match rtc.seized.get() {
        true => Poll::Pending,
        false => program.as_mut().poll(cx),
    })
    .await
}

/// Events of a device, for whoever watches it run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The bootloader started an image.
    Booted {
        /// Flash offset of its partition.
        address: u32,
        /// Version of the image.
        version: String,
        /// Why this boot happened.
        reason: ResetReason,
    },
    /// The bootloader found nothing to start: the device is bricked.
    NothingBootable,
    /// Power was lost in the middle of a flash operation.
    PowerLost,
}

/// Kinds of a virtual device's parts.
struct SimPlatform<N, L>(PhantomData<(N, L)>);

impl<N: TcpConnect + Dns, L: Link> Platform for SimPlatform<N, L> {
    type Net = N;
    type Tls = HostTls;
    type Clock = SimClock;
    type Flash = Flash;
    type Board = SimBoard;
    type Link = L;
    type Health = SimHealth;
    type Rng = SmallRng;
}

/// Facts that a chip tells of itself; `None` for what it cannot tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChipFacts {
    /// Revision, major × 100 + minor.
    pub revision: Option<u16>,
    /// Bytes of its flash.
    pub flash_size: Option<u32>,
}

/// A virtual ESP32.
pub struct VirtualDevice<'a, N, L> {
    /// Configuration of the agent.
    pub config: Config<'a>,
    /// Flash chip.
    pub flash: Flash,
    /// Second-stage bootloader.
    pub bootloader: BootloaderKind,
    /// The chip it says it is.
    pub chip: Chip,
    /// Revision and flash chip, as far as it tells them.
    pub facts: ChipFacts,
    /// Clock.
    pub clock: SimClock,
    /// Sockets.
    pub net: &'a N,
    /// TLS over them.
    pub tls: HostTls,
    /// Wi-Fi link.
    pub link: L,
    /// The seed of its randomness.
    pub seed: u64,
    /// Number of times that it was switched on before, or any other number: chance is another one then.
    pub power_ons: u64,
    /// Oddity of its chip.
    pub oddity: Oddity,
}

/// Oddities that a chip may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oddity {
    /// Nothing.
    #[default]
    None,
    /// It says that it runs from another place than the bootloader started it from.
    RunsFrom(u32),
    /// It encrypts its flash.
    Encrypted,
}

/// End of an image's run.
enum End {
    Restart,
    Watchdog,
    Panic,
    Brownout,
    PowerLost,
}

impl<N: TcpConnect + Dns, L: Link + Clone> VirtualDevice<'_, N, L> {
    /// Powers the device on and lets it live until power is lost or nothing boots. `on_event` hears of
    /// every boot.
    pub async fn run(&self, mut on_event: impl FnMut(Event)) -> Event {
        let rtc = Rc::new(Rtc::default());
        let mut reason = ResetReason::PowerOn;
        let last = loop {
            match self.boot_once(&rtc, reason, &mut on_event).await {
                Ok(End::Restart) => reason = rtc.reason.take().unwrap_or(ResetReason::Software),
                Ok(End::Watchdog) => reason = ResetReason::Watchdog,
                Ok(End::Panic) => reason = ResetReason::Panic,
                Ok(End::Brownout) => reason = ResetReason::Brownout,
                Ok(End::PowerLost) => break Event::PowerLost,
                Err(event) => break event,
            }
            rtc.watchdog.set(None);
            rtc.seized.set(false);
            rtc.restarts.set(rtc.restarts.get() + 1);
        };
        on_event(last.clone());
        last
    }

    async fn boot_once(
        &self,
        rtc: &Rc<Rtc>,
        reason: ResetReason,
        on_event: &mut impl FnMut(Event),
    ) -> Result<End, Event> {
        let lost = self.flash.wait_power_lost();
        tokio::select! {
            biased;
            () = lost => Ok(End::PowerLost),
            end = self.live(rtc, reason, on_event) => end,
        }
    }

    /// One boot, for as long as there is power.
    async fn live(
        &self,
        rtc: &Rc<Rtc>,
        reason: ResetReason,
        on_event: &mut impl FnMut(Event),
    ) -> Result<End, Event> {
        let mut flash = self.flash.clone();
        let chosen = bootloader::boot(&mut flash, self.bootloader).await.map_err(|error| {
            log::error!("{}: bootloader: {error:?}", self.config.device);
            Event::NothingBootable
        })?;
        on_event(Event::Booted { address: chosen.address, version: chosen.version.clone(), reason });
        let this = self.started();
        let board = this.board(rtc, reason, chosen.address);
        let mut marker = vec![0; MARKER_WINDOW];
        flash.read(chosen.address, &mut marker).await.map_err(|_| Event::NothingBootable)?;
        tokio::select! {
            biased;
            () = rtc.restart.notified() => Ok(End::Restart),
            end = scheduled(rtc, this.program(board, behaviour_of(&marker).on(self.seed), rtc)) => Ok(end),
            () = watchdog(rtc, &this.clock) => Ok(End::Watchdog),
        }
    }

    /// The same device with a clock that begins now.
    fn started(&self) -> Self {
        Self {
            clock: self.clock.restarted(),
            flash: self.flash.clone(),
            link: self.link.clone(),
            tls: self.tls.clone(),
            ..*self
        }
    }

    /// The firmware's `main`.
    async fn program(&self, mut board: SimBoard, behaviour: Behaviour, rtc: &Rc<Rtc>) -> End {
        let mut flash = self.flash.clone();
        let boot: Boot = match otaru_device::begin(&mut flash, &mut board, &self.config).await {
            Ok(boot) => boot,
            Err(error) => {
                log::error!("{}: {error}", self.config.device);
                return self.stopped(board).await;
            }
        };
        match behaviour {
            Behaviour::Crash => {
                let text = "panicked at src/main.rs:42:5: called `Option::unwrap()` on a `None` value";
                board.leave_message(text);
                return End::Panic;
            }
            Behaviour::Hang => return std::future::pending().await,
            Behaviour::Brownout => return End::Brownout,
            Behaviour::CrashInUpdate => {
                let agent =
                    self.agent(boot, board, flash, SimHealth(behaviour, Rc::clone(rtc)), self.link.clone());
                return tokio::select! {
                    end = agent => end,
                    () = self.update_under_way() => End::Panic,
                };
            }
            // The network driver of this image never comes up.
            Behaviour::Deaf => {
                let health = SimHealth(Behaviour::Deaf, Rc::clone(rtc));
                return self.agent(boot, board, flash, health, NoLink).await;
            }
            // Fragile is one of the others on each device.
            Behaviour::Healthy
            | Behaviour::Unhealthy
            | Behaviour::Blocks
            | Behaviour::Seizes
            | Behaviour::Fragile => {}
        }
        let application = async {
            if behaviour == Behaviour::Seizes {
                self.clock.sleep(SEIZES_AFTER).await;
                rtc.seized.set(true);
            }
            std::future::pending().await
        };
        let health = SimHealth(behaviour, Rc::clone(rtc));
        tokio::select! {
            end = self.agent(boot, board, flash, health, self.link.clone()) => end,
            end = application => end,
        }
    }

    fn board(&self, rtc: &Rc<Rtc>, reason: ResetReason, running: u32) -> SimBoard {
        let running = match self.oddity {
            Oddity::RunsFrom(address) => address,
            _ => running,
        };
        let encrypted = self.oddity == Oddity::Encrypted;
        SimBoard {
            rtc: Rc::clone(rtc),
            clock: self.clock.clone(),
            chip: self.chip,
            facts: self.facts,
            reason,
            running,
            encrypted,
        }
    }

    /// Bytes of the whole running agent, every buffer included; `None` when nothing boots.
    pub async fn agent_size(&self) -> Option<usize> {
        let mut flash = self.flash.clone();
        let chosen = bootloader::boot(&mut flash, self.bootloader).await.ok()?;
        let mut board = self.board(&Rc::default(), ResetReason::PowerOn, chosen.address);
        let boot = otaru_device::begin(&mut flash, &mut board, &self.config).await.ok()?;
        let mut workspace = Box::new(Workspace::new());
        let parts = Parts::<SimPlatform<N, NoLink>> {
            net: self.net,
            tls: &self.tls,
            clock: &self.clock,
            flash,
            board,
            link: NoLink,
            health: SimHealth(Behaviour::Healthy, Rc::default()),
            rng: SmallRng::seed_from_u64(self.seed),
        };
        let mut agent = Agent::new(self.config, parts, &mut workspace, boot).ok()?;
        Some(size_of_val(&agent) + size_of_val(&agent.run()))
    }

    /// Randomness of one start: the same for the same seed, and another at each start, as a chip's is.
    fn chance(&self, restarts: u64) -> SmallRng {
        let start = self.power_ons.rotate_left(32).wrapping_add(restarts);
        SmallRng::seed_from_u64(self.seed ^ start.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Waits until more was written than a memory needs.
    async fn update_under_way(&self) {
        let before = self.flash.counts().pages;
        while self.flash.counts().pages < before + 100 {
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// A program that has said why it can do nothing. It lives, so it feeds the watchdog.
    async fn stopped(&self, mut board: SimBoard) -> End {
        loop {
            board.feed_watchdog();
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    async fn agent<K: Link>(
        &self,
        boot: Boot,
        board: SimBoard,
        flash: Flash,
        health: SimHealth,
        link: K,
    ) -> End {
        let restarts = board.rtc.restarts.get();
        let mut workspace = Box::new(Workspace::new());
        let parts = Parts::<SimPlatform<N, K>> {
            net: self.net,
            tls: &self.tls,
            clock: &self.clock,
            flash,
            board,
            link,
            health,
            rng: self.chance(restarts),
        };
        match Agent::new(self.config, parts, &mut workspace, boot) {
            // Boxed: nested in this one, its layout would be deeper than the compiler goes.
            Ok(mut agent) => match Box::pin(agent.run()).await {},
            // As a firmware does that cannot go on: it says why, and restarts.
            Err(error) => {
                log::error!("{}: {error}", self.config.device);
                self.clock.sleep(Duration::from_secs(5)).await;
                End::Restart
            }
        }
    }
}

/// A link that never comes up.
struct NoLink;

impl Link for NoLink {
    fn is_up(&self) -> bool {
        false
    }

    async fn reconnect(&mut self) -> Result<(), otaru_device::LinkError> {
        Err(otaru_device::LinkError)
    }
}

async fn watchdog(rtc: &Rtc, clock: &SimClock) {
    loop {
        match rtc.watchdog.get() {
            Some((deadline, _)) if deadline <= clock.now() => return,
            Some((deadline, _)) => clock.sleep(deadline - clock.now()).await,
            None => clock.sleep(Duration::from_secs(1)).await,
        }
    }
}
