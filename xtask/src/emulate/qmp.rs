//! The emulator's own console, by the QEMU Machine Protocol: the network's plug, and the memory.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Longest time until the emulator listens, and until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// The name of the emulated network.
pub(super) const NETWORK: &str = "u1";

/// A conversation with one emulator.
pub(super) struct Qmp(BufReader<UnixStream>);

impl Qmp {
    /// Connects to the emulator that listens at `socket`, which was started just now.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > end => {
                    return Err(error)
                        .with_context(|| format!("the emulator does not listen at {}", socket.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self(BufReader::new(stream));
        // The greeting, and then nothing is taken before this.
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Pulls the network's plug, or puts it back.
    pub(super) fn set_link(&mut self, up: bool) -> Result<()> {
        self.execute("set_link", json!({ "name": NETWORK, "up": up })).map(drop)
    }

    /// Memory as it is at this moment, by way of the file `dump`.
    pub(super) fn memory(&mut self, from: u64, bytes: u64, dump: &Path) -> Result<Vec<u8>> {
        self.execute("pmemsave", json!({ "val": from, "size": bytes, "filename": dump }))?;
        fs::read(dump).with_context(|| format!("no memory in {}", dump.display()))
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.0.get_mut().write_all(line.as_bytes())?;
        loop {
            // What is neither is an event.
            let answer = self.line()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line).context("the emulator does not answer")? {
            0 => bail!("the emulator has ended"),
            _ => serde_json::from_str(&line).context("not QMP"),
        }
    }
}
