//! The brokers under load, each a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::wire::PATIENCE;
use crate::shell::{find, program, root, works};

/// A broker's process; it ends with this.
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    /// Kept open: a program whose output nobody takes ends.
    _output: Option<BufReader<ChildStdout>>,
}

impl Broker {
    /// Returns the resident memory of its process, in KiB.
    pub(super) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Returns the processor time of its threads so far: the first figure of each one's `schedstat`, in nanoseconds.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let figures = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = figures.split_whitespace().next().context("an empty schedstat")?;
            sum += Duration::from_nanos(first.parse()?);
        }
        Ok(sum)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts Mosquitto, which sends small packets at once as ours does; its settings, of which some are `more`, go into the folder.
///
/// # Errors
/// Returns an error if it does not start.
pub(crate) fn mosquitto(folder: &Path, more: &str) -> Result<Broker> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let user = if works(program("sh").args(["-c", "test $(id -u) = 0"])) { "user root\n" } else { "" };
    let file = folder.join("mosquitto.conf");
    fs::write(
        &file,
        format!(
            "{user}listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nset_tcp_nodelay true\n{more}"
        ),
    )?;
    let mut command = program(find("mosquitto").context("mosquitto is gone")?);
    let child = command.arg("-c").arg(file).stdin(Stdio::null()).spawn().context("cannot start mosquitto")?;
    let broker = Broker { child, port, _output: None };
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(start.elapsed() < PATIENCE, "mosquitto does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(broker)
}

/// Starts `otaru broker`.
pub(super) fn embedded() -> Result<Broker> {
    let mut command = program(root().join("target/release/otaru"));
    command.args(["broker", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start otaru broker")?;
    let mut output = BufReader::new(child.stdout.take().context("it has no output")?);
    let mut broker = Broker { child, port: 0, _output: None };
    let mut line = String::new();
    output.read_line(&mut line)?;
    broker._output = Some(output);
    broker.port = line
        .trim_end()
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .with_context(|| format!("no port in {line:?}"))?;
    Ok(broker)
}
