//! Logs on standard error: of commands, each with the virtual device it is about; of a server, structured.

use std::io::Write as _;
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::ui;

tokio::task_local! {
    /// The virtual device whose code runs.
    pub(crate) static DEVICE: String;
}

struct Stderr {
    start: Instant,
    ours: LevelFilter,
    others: LevelFilter,
}

/// Starts logging: nothing, ours from info on, ours from debug on, everything.
pub(crate) fn start(verbose: u8) {
    let (ours, others) = match verbose {
        0 => return,
        1 => (LevelFilter::Info, LevelFilter::Off),
        2 => (LevelFilter::Debug, LevelFilter::Warn),
        _ => (LevelFilter::Trace, LevelFilter::Debug),
    };
    if log::set_boxed_logger(Box::new(Stderr { start: Instant::now(), ours, others })).is_ok() {
        log::set_max_level(ours.max(others));
    }
}

/// Starts logging our warnings, unless more is logged already.
pub(crate) fn warnings() {
    let stderr = Stderr { start: Instant::now(), ours: LevelFilter::Warn, others: LevelFilter::Off };
    if log::set_boxed_logger(Box::new(stderr)).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let limit = if metadata.target().starts_with("otaru") { self.ours } else { self.others };
        metadata.level() <= limit
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let device = DEVICE.try_with(|name| format!("{name}: ")).unwrap_or_default();
        let text = ui::clean(&record.args().to_string());
        let seconds = self.start.elapsed().as_secs_f64();
        // Nobody reads logs any more when this fails.
        let _ = writeln!(std::io::stderr().lock(), "{seconds:9.3} {level:5} {device}{text}");
    }

    fn flush(&self) {}
}

/// Format of a server's logs.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Starts a server's logs: what went wrong and what is worth knowing, with `verbose` also each request, with more everything.
/// The variable OTARU_LOG has filters such as `otaru_server=debug` instead.
pub(crate) fn serve(format: Format, verbose: u8) {
    use tracing_subscriber::EnvFilter;
    // The TLS library would write a line for each odd greeting that somebody sends.
    let usual = match verbose {
        0 => "warn,rustls=off,otaru::commands::serve=info,otaru_broker=info,otaru_server=info",
        1 => "warn,rustls=off,otaru::commands::serve=debug,otaru_broker=debug,otaru_server=debug",
        2 => "info,rustls=off,otaru_broker=trace,otaru_server=trace",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("OTARU_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    // Where nobody reads logs any more, a word about that would end in a panic.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second start changes nothing.
    let _ = match format {
        Format::Text => logs.with_ansi(console::Term::stderr().features().colors_supported()).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
}
