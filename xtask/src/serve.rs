//! `otaru serve`, started for a check or a measurement.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::shell::program;

/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// A process that ends with this.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that devices may come to without a login.
pub(crate) struct Server {
    pub(crate) running: Running,
    program: PathBuf,
    /// Address of its API: `http://127.0.0.1:…`.
    pub(crate) url: String,
    /// The port of its broker; 0 where that has none.
    pub(crate) mqtt: u16,
    /// The port of its metrics.
    metrics: u16,
    /// An admin's token.
    pub(crate) token: String,
}

impl Server {
    /// Starts the program with a new data folder; it answers when this is done.
    ///
    /// # Errors
    /// Returns an error if the program was not built, or does not start.
    pub(crate) fn start(otaru: &Path, data: &Path) -> Result<Self> {
        Self::start_with(otaru, data, &["--dev"], Stdio::inherit())
    }

    /// Starts the program with these options, and its log there.
    ///
    /// # Errors
    /// Returns an error if the program was not built, or does not start.
    pub(crate) fn start_with(otaru: &Path, data: &Path, options: &[&str], log: Stdio) -> Result<Self> {
        let mqtt = free_port()?;
        let started = Self::start_program(otaru, otaru, |http, metrics| {
            let mut command = serve(otaru, http, metrics, data, options, log);
            command.args(["--mqtt-listen", &local(mqtt)]);
            command
        })?;
        Ok(Self { mqtt, ..started })
    }

    /// Starts the program with these options, at a broker that is among them. One that comes to `others` has their token.
    ///
    /// # Errors
    /// Returns an error if the program was not built, or does not start.
    pub(crate) fn start_beside(
        others: Option<&Self>,
        otaru: &Path,
        data: &Path,
        options: &[&str],
    ) -> Result<Self> {
        let command = |http: &str, metrics: &str| serve(otaru, http, metrics, data, options, Stdio::null());
        match others {
            None => Self::start_program(otaru, otaru, command),
            Some(other) => {
                let (started, _) = Self::launch(otaru, otaru, command)?;
                Ok(Self { token: other.token.clone(), ..started })
            }
        }
    }

    /// Ends the program as a loss of power does, and starts it again over its data; it answers when this is done.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub(crate) fn start_again(self, data: &Path, options: &[&str], log: Stdio) -> Result<Self> {
        let Self { running, program: otaru, token, .. } = self;
        drop(running);
        let mqtt = free_port()?;
        let (started, _) = Self::launch(&otaru, &otaru, |http, metrics| {
            let mut command = serve(&otaru, http, metrics, data, options, log);
            command.args(["--mqtt-listen", &local(mqtt)]);
            command
        })?;
        Ok(Self { mqtt, token, ..started })
    }

    /// Starts a program that is a server, with what `command` makes of the addresses of its API and its metrics. It is ready once it has
    /// printed a line with its token, as `otaru serve --json` does. The command line that asks it things is `otaru`.
    ///
    /// # Errors
    /// Returns an error if the program was not built, or does not start.
    pub(crate) fn start_program(
        otaru: &Path,
        server: &Path,
        command: impl FnOnce(&str, &str) -> Command,
    ) -> Result<Self> {
        let (started, first) = Self::launch(otaru, server, command)?;
        let token = first["token"].as_str().context("no token")?.to_owned();
        Ok(Self { token, ..started })
    }

    /// The same without a token, and with the line that it printed.
    fn launch(
        otaru: &Path,
        server: &Path,
        command: impl FnOnce(&str, &str) -> Command,
    ) -> Result<(Self, Value)> {
        let (http, metrics) = (free_port()?, free_port()?);
        let mut command = command(&local(http), &local(metrics));
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("cannot start {}", server.display()))?;
        let stdout = child.stdout.take().context("it has no output")?;
        let running = Running(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let first: Value = serde_json::from_str(&line).context("the server does not start")?;
        let url = format!("http://{}", local(http));
        let token = String::new();
        Ok((Self { running, program: otaru.to_owned(), url, mqtt: 0, metrics, token }, first))
    }

    /// Has the command line do something on it, as the admin.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) fn user(&self, args: &[&str]) -> Result<Value> {
        let mut command = program(&self.program);
        command.args(args).arg("--json").stdin(Stdio::null());
        command.env("OTARU_SERVER", &self.url).env("OTARU_TOKEN", &self.token);
        let output = command.stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{args:?} failed");
        let text = String::from_utf8(output.stdout)?;
        Ok(serde_json::from_str(text.lines().next_back().unwrap_or("null"))?)
    }

    /// Reads from its API as the admin.
    ///
    /// # Errors
    /// Returns an error if the server does not answer, or answers with an error.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        read(&format!("{}{path}", self.url), &self.token)
    }

    /// Fetches one metric; 0 where the server has none of this name.
    ///
    /// # Errors
    /// Returns an error if the server does not answer, or answers with an error.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    /// Fetches the metrics, as text.
    ///
    /// # Errors
    /// Returns an error if the server does not answer, or answers with an error.
    pub(crate) fn metrics(&self) -> Result<String> {
        read(&format!("http://{}/metrics", local(self.metrics)), &self.token)
    }
}

/// Returns the command of a server with these options.
fn serve(otaru: &Path, http: &str, metrics: &str, data: &Path, options: &[&str], log: Stdio) -> Command {
    let mut command = program(otaru);
    command.args(["serve", "--json", "--http", http, "--metrics", metrics]);
    command.arg("--data").arg(data).args(options).stdin(Stdio::null()).stderr(log);
    command
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn read(url: &str, token: &str) -> Result<String> {
    let mut answer = ureq::get(url).header("authorization", format!("Bearer {token}")).call()?;
    Ok(answer.body_mut().with_config().limit(LONGEST).read_to_string()?)
}

/// A port that nobody listens at.
///
/// # Errors
/// Returns an error if no port is free.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
