//! One attack: before, twice, and a minute after.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::crowd;
use super::force::Force;
use super::honest::{Answers, Honest};
use super::logins::Credentials;
use super::options::{Attack, Options, Route};
use super::process::{Memory, load};
use super::reporter::Device;
use super::target::Target;
use super::warm::warm;

/// Times that the slowest of a hundred answers may take what it takes while nobody attacks.
const RATIO: f64 = 4.0;
/// Bytes that the server may have more a minute later.
const KEPT: u64 = 20 << 20;
/// Bytes by which the second peak may be above the first: the system counts memory in batches, and late.
const UNSURE: u64 = 1 << 20;
/// Bytes that a name that was made up may cost besides: its last report, what it retains, and its share of what waits.
const NAME: u64 = 8 << 10;
/// Bytes of log of an attack.
const LOG: u64 = 1_000_000;
/// Most time until another device's report is seen.
const SEEN: Duration = Duration::from_secs(1);
/// Reasons of failures that are shown.
const REASONS: usize = 5;

/// Outcome of a scene.
pub(super) struct Outcome {
    attack: Attack,
    way: Route,
    load: String,
    idle: Answers,
    attacked: Answers,
    /// Bytes: idle, in the first round, in the second, and later.
    memory: [u64; 4],
    log: u64,
    /// The longest that another device's report took to be seen: idle, and while the server was attacked.
    seen: Option<[Duration; 2]>,
    /// Size of the attack, in figures.
    force: String,
    /// Names that were made up and registered in the second round, which stay.
    names: u64,
}

/// Events of one round, with or without an attack.
struct Round {
    answers: Answers,
    seen: Vec<Duration>,
    force: Force,
}

/// The device that means well in an attack on devices' ways, and what others attack with.
struct Devices {
    quiet: Device,
    arms: Arms,
}

/// Means of an attack on devices' ways.
enum Arms {
    Reports(Device),
    Credentials(Credentials),
    Sockets,
}

impl Devices {
    fn new(target: &Target, attack: Attack) -> Result<Option<Self>> {
        if !attack.is_by_reports() && !attack.is_over_mqtt() {
            return Ok(None);
        }
        let quiet = format!("quiet-{}", attack.name());
        let arms = if attack.is_by_reports() {
            Arms::Reports(Device::new(target, &format!("loud-{}", attack.name()))?)
        } else if attack.has_login() {
            Arms::Credentials(Credentials::new(target, attack)?)
        } else {
            Arms::Sockets
        };
        let quiet = match &arms {
            // Whoever means well there has the same key as those that do not.
            Arms::Credentials(credentials) if attack == Attack::InventedDevices => {
                Device::with_fleet_key(&quiet, credentials.fleet_key())
            }
            _ => Device::new(target, &quiet)?,
        };
        Ok(Some(Self { quiet, arms }))
    }
}

/// Plays it.
///
/// # Errors
/// Returns an error if the attack cannot be played; a missed aim is not an error.
pub(super) fn play(target: &Target, attack: Attack, way: Route, options: &Options) -> Result<Outcome> {
    println!("\n{} ({way:?}), load {}", attack.name(), load());
    let honest = Honest::new(target)?;
    let memory = Memory::of(target.server.running.0.id());
    let devices = Devices::new(target, attack)?;
    let scene = Scene { target, attack, options, honest: &honest, devices: devices.as_ref() };
    let log = || fs::metadata(&target.log).map_or(0, |log| log.len());
    let quiet = scene.round(Duration::from_secs(options.idle), false)?;
    let (before, log_before) = (memory.now()?, log());
    println!(
        "  before: p50 {} ms, p99 {} ms",
        ms(quiet.answers.percentile(50)),
        ms(quiet.answers.percentile(99))
    );
    let (mut peaks, mut attacked, mut seen) = ([0; 2], Answers::default(), Vec::new());
    let (mut forces, mut names) = (Vec::new(), 0);
    for peak in &mut peaks {
        warm()?;
        memory.reset_peak()?;
        let round = scene.round(Duration::from_secs(options.seconds), true)?;
        *peak = memory.peak()?;
        println!(
            "  attacked ({}): p50 {} ms, p99 {} ms, load {}",
            round.force.words,
            ms(round.answers.percentile(50)),
            ms(round.answers.percentile(99)),
            load()
        );
        attacked.0.extend(round.answers.0);
        seen.extend(round.seen);
        names = round.force.names;
        forces.push(round.force.words);
    }
    std::thread::sleep(Duration::from_secs(options.rest));
    for reason in attacked.failures().iter().take(REASONS) {
        println!("  failed: {reason}");
    }
    let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    let outcome = Outcome {
        attack,
        way,
        load: load(),
        memory: [before, peaks[0], peaks[1], memory.now()?],
        log: log().saturating_sub(log_before),
        seen: devices.is_some().then(|| [longest(&quiet.seen), longest(&seen)]),
        idle: quiet.answers,
        attacked,
        force: forces.join(" / "),
        names,
    };
    println!("{}\n{outcome}", Outcome::head());
    Ok(outcome)
}

struct Scene<'a> {
    target: &'a Target,
    attack: Attack,
    options: &'a Options,
    honest: &'a Honest<'a>,
    devices: Option<&'a Devices>,
}

impl Scene<'_> {
    fn round(&self, time: Duration, attacked: bool) -> Result<Round> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let attacking = attacked.then(|| scope.spawn(|| self.attack(&stop)));
            let heard = self
                .devices
                .map(|devices| scope.spawn(|| devices.quiet.be_heard(self.target, self.attack, &stop)));
            let answers = self.honest.ask_for(time);
            stop.store(true, Ordering::Relaxed);
            let force = match attacking {
                Some(thread) => thread.join().map_err(|_| anyhow!("the attack panicked"))??,
                None => String::new().into(),
            };
            let seen = match heard {
                Some(thread) => thread.join().map_err(|_| anyhow!("the device panicked"))??,
                None => Vec::new(),
            };
            Ok(Round { answers, seen, force })
        })
    }

    /// Attacks until `stop`; says with what.
    fn attack(&self, stop: &AtomicBool) -> Result<Force> {
        match self.devices.map(|devices| (&devices.quiet, &devices.arms)) {
            Some((_, Arms::Reports(loud))) => {
                let sent = loud.flood(self.target, self.attack, stop)?;
                Ok(format!("{sent} reports").into())
            }
            Some((quiet, Arms::Credentials(credentials))) => {
                credentials.attack(self.target, self.attack, quiet, stop)
            }
            Some((_, Arms::Sockets)) | None => {
                let crowd = crowd::attack(self.target, self.attack, self.options.connections, stop)?;
                Ok(format!("{} connections at once, {} in all", crowd.most, crowd.opened).into())
            }
        }
    }
}

impl Outcome {
    /// The aims, in words.
    pub(super) const AIMS: &str = "no request of others fails; p99 within 4 times of idle; another device's report is \
        seen within 1 s; a second round does not raise the peak of memory, but for 8 KiB for each name that it has the server \
        register; a minute later it is within 20 MiB of before; \
        less than 1 MB of log";

    /// The first lines of a table of these.
    pub(super) fn head() -> &'static str {
        "| attack | way | failed | p50/p99 idle, ms | p50/p99 attacked, ms | p99 ratio | seen after, idle/attacked, ms | \
         MiB idle/1st/2nd/later | log, bytes | load |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    }

    fn ratio(&self) -> f64 {
        self.attacked.percentile(99).as_secs_f64() / self.idle.percentile(99).as_secs_f64()
    }

    /// The aims that were missed.
    pub(super) fn missed(&self) -> Vec<String> {
        let [before, first, second, later] = self.memory;
        let failed = self.attacked.failures().len();
        let aims = [
            (failed == 0, format!("{failed} requests of others failed")),
            (self.ratio() <= RATIO, format!("p99 is {:.1} times the idle one", self.ratio())),
            (
                self.seen.is_none_or(|[_, attacked]| attacked <= SEEN),
                format!("a report was seen after {} ms", ms(self.seen.unwrap_or_default()[1])),
            ),
            (
                // Names that are made up stay until their devices are retired.
                second <= first + UNSURE + NAME * self.names,
                format!(
                    "the second peak is {} MiB, the first {}, with {} new names",
                    mib(second),
                    mib(first),
                    self.names
                ),
            ),
            (later <= before + KEPT, format!("{} MiB a minute later, {} before", mib(later), mib(before))),
            (self.log < LOG, format!("{} bytes of log", self.log)),
        ];
        let name = format!("{} ({:?})", self.attack.name(), self.way);
        aims.into_iter().filter(|(met, _)| !met).map(|(_, text)| format!("{name}: {text}")).collect()
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both =
            |answers: &Answers| format!("{} / {}", ms(answers.percentile(50)), ms(answers.percentile(99)));
        let seen =
            self.seen.map_or("-".to_owned(), |[idle, attacked]| format!("{} / {}", ms(idle), ms(attacked)));
        write!(
            f,
            "| {} ({}) | {:?} | {} of {} | {} | {} | {:.2} | {seen} | {} | {} | {} |",
            self.attack.name(),
            self.force,
            self.way,
            self.attacked.failures().len(),
            self.attacked.0.len(),
            both(&self.idle),
            both(&self.attacked),
            self.ratio(),
            self.memory.map(mib).join(" / "),
            self.log,
            self.load
        )
    }
}

/// A time in milliseconds, for people.
fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}
