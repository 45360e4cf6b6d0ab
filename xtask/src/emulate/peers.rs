//! Peers of the device: Mosquitto, the command line's file server, and what the device reports.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::shell::{cargo, find, program, root, run};

const UPDATE: &str = "ESP32/ota/update";

/// A port nobody listens on now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Runs the command line.
pub(super) fn otaru(words: &[&str], files: &[&Path]) -> Result<()> {
    run(command_line().args(words).args(files).stdout(Stdio::null()))
}

/// The command line, as [`build`] made it.
fn command_line() -> Command {
    program(root().join("target/debug/otaru"))
}

/// Builds the command line.
pub(super) fn build() -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--package", "otaru", "--target-dir", "target"]))
}

/// As `sha256sum` prints it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program that ends with this.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {name}"))?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Report of a device.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    pub(super) device: String,
    pub(super) state: String,
    pub(super) version: String,
    pub(super) image: String,
    pub(super) slot: usize,
    pub(super) confirmed: bool,
    pub(super) boot: String,
    pub(super) error_code: String,
    pub(super) error_detail: String,
    pub(super) failed_version: String,
    /// The fewest bytes of heap that were free since the start.
    pub(super) free_heap: Option<u64>,
    /// Names of the CAs that are trusted over TLS.
    pub(super) trusts: String,
    /// All of it.
    pub(super) text: String,
}

impl Status {
    fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let string = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            device: string("/device"),
            state: string("/state"),
            version: string("/version"),
            image: string("/image"),
            slot: usize::try_from(value.get("slot")?.as_u64()?).ok()?,
            confirmed: value.get("confirmed")?.as_bool()?,
            boot: string("/boot"),
            error_code: string("/error/code"),
            error_detail: string("/error/detail"),
            failed_version: string("/failed/version"),
            free_heap: value.get("free_heap").and_then(Value::as_u64),
            trusts: string("/tls/trusts"),
            text: text.to_owned(),
        })
    }
}

/// Mosquitto on loopback, with somebody who listens to everything.
pub(super) struct Broker {
    port: u16,
    config: PathBuf,
    _listener: Running,
    /// `None` while it is away.
    broker: Option<Running>,
    messages: Receiver<(String, String)>,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    last: Option<Status>,
    progress: usize,
}

impl Broker {
    /// Starts it with a listener for everybody at `port`, and with others.
    pub(super) fn start(folder: &Path, port: u16, others: &str) -> Result<Self> {
        let config = folder.join("mosquitto.conf");
        // Each listener has its own word on who may come.
        let everybody = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        let rest = format!("user root\npersistence false\nper_listener_settings true\n{everybody}{others}");
        fs::write(&config, rest)?;
        fs::write(log_of(&config), "")?;
        let broker = mosquitto(&config, port)?;
        let mut command = client("mosquitto_sub", port)?;
        let mut listener = Running::start(command.args(["-v", "-t", "ESP32/ota/#"]).stdout(Stdio::piped()))?;
        let lines = BufReader::new(listener.0.stdout.take().context("mosquitto_sub has no output")?).lines();
        let (sender, messages) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
                if sender.send((topic.to_owned(), payload.to_owned())).is_err() {
                    break;
                }
            }
        });
        let (broker, seen) = (Some(broker), RefCell::default());
        Ok(Self { port, config, _listener: listener, broker, messages, seen })
    }

    /// Ends it: whoever is connected loses the connection, and nobody answers at its port.
    pub(super) fn stop(&mut self) {
        self.broker = None;
    }

    /// Starts it again if it was stopped. It has forgotten everything; the listener comes back by itself.
    pub(super) fn start_again(&mut self) -> Result<()> {
        if self.broker.is_none() {
            self.broker = Some(mosquitto(&self.config, self.port)?);
        }
        Ok(())
    }

    /// Tells all devices.
    pub(super) fn publish(&self, payload: &str) -> Result<()> {
        run(client("mosquitto_pub", self.port)?.args(["-q", "1", "-t", UPDATE, "-m", payload]))
    }

    /// Waits for a report; `None` if none of this kind comes in time.
    pub(super) fn wait(&self, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Option<Status>> {
        let end = Instant::now() + limit;
        loop {
            match self.messages.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((topic, payload)) => {
                    let mut seen = self.seen.borrow_mut();
                    if topic.ends_with("/progress") {
                        seen.progress += 1;
                    }
                    if topic.ends_with("/status")
                        && let Some(status) = Status::read(&payload)
                    {
                        seen.last = Some(status.clone());
                        if wanted(&status) {
                            return Ok(Some(status));
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("mosquitto_sub has ended"),
            }
        }
    }

    /// The same, beginning with a report that is at hand.
    pub(super) fn wait_from(
        &self,
        first: &Status,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Option<Status>> {
        if wanted(first) { Ok(Some(first.clone())) } else { self.wait(limit, wanted) }
    }

    /// Drops what a device said before it lost power.
    pub(super) fn forget(&self) -> Result<()> {
        self.wait(Duration::from_millis(200), |_| false)?;
        self.seen.borrow_mut().last = None;
        Ok(())
    }

    /// The last report.
    pub(super) fn last(&self) -> Option<Status> {
        self.seen.borrow().last.clone()
    }

    /// State of the device by its last report.
    pub(super) fn last_state(&self) -> String {
        self.last().map_or_else(|| "starting".to_owned(), |status| status.state)
    }

    /// Lines for people so far.
    pub(super) fn progress(&self) -> usize {
        self.seen.borrow().progress
    }
}

/// Starts Mosquitto, and waits until it listens.
fn mosquitto(config: &Path, port: u16) -> Result<Running> {
    let log = fs::OpenOptions::new().append(true).open(log_of(config))?;
    let path = find("mosquitto").context("no mosquitto")?;
    let broker = Running::start(program(path).arg("-c").arg(config).stdout(log.try_clone()?).stderr(log))?;
    listening(port)?;
    Ok(broker)
}

/// Returns the log file of Mosquitto with this configuration.
fn log_of(config: &Path) -> PathBuf {
    config.with_extension("log")
}

/// Mosquitto's command line as a client.
fn client(name: &str, port: u16) -> Result<Command> {
    let mut command = program(find(name).with_context(|| format!("no {name}"))?);
    command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &port.to_string()]);
    Ok(command)
}

/// The command line's file server.
pub(super) struct WebServer {
    pub(super) port: u16,
    _server: Running,
}

impl WebServer {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let log = fs::File::create(folder.join("files.log"))?;
        let mut command = command_line();
        command
            .args(["files", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .arg(folder.join("www"))
            .stdout(log.try_clone()?)
            .stderr(log);
        let server = Running::start(&mut command)?;
        listening(port)?;
        Ok(Self { port, _server: server })
    }
}

/// Waits until somebody listens.
pub(super) fn listening(port: u16) -> Result<()> {
    for _ in 0..100 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("nobody listens at port {port} after 10 s")
}
