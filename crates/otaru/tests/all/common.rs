//! The real binary, run as a user runs it; children end with the test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest that anything in a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A command that does not hear of the tester's own settings.
pub(crate) fn otaru(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otaru"));
    command.args(args).stdin(Stdio::null());
    for name in ["OTARU_BROKER", "OTARU_BASE", "OTARU_USERNAME", "OTARU_PASSWORD"] {
        command.env_remove(name);
    }
    command
}

/// A command's end: exit code, standard output, standard error.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Fails unless the exit code is this.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Fails unless standard error has this text.
    #[track_caller]
    pub(crate) fn tells(self, text: &str) -> Self {
        assert!(self.err.contains(text), "wanted {text:?} in: {}", self.err);
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(LIMIT) else {
        interrupt(id);
        panic!("{command:?} did not end in time");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn interrupt(id: u32) {
    let _ = Command::new("kill").args(["-INT", &id.to_string()]).status();
}

/// A command that runs beside the test.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a command and reads its lines.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that has this text.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {text:?}, but:\n{}", seen.join("\n"));
    }

    /// Stops reading: the pipe closes with the next line.
    pub(crate) fn ignore(&mut self) {
        self.lines = channel().1;
    }

    /// Presses Ctrl-C; gives back the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        interrupt(self.id());
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end after Ctrl-C");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker on a free port, and its URL.
pub(crate) fn broker(more: &[&str]) -> (Running, String) {
    let mut command = otaru(&["broker", "--listen", "127.0.0.1:0"]);
    command.args(more);
    let broker = Running::start(command);
    let line = broker.line("MQTT broker at ");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (broker, format!("mqtt://{address}"))
}

/// A file in a folder, as text.
pub(crate) fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Makes a synthetic firmware file.
pub(crate) fn firmware(dir: &Path, version: &str, behaviour: &str) -> PathBuf {
    let file = dir.join(format!("lamp-{version}.bin"));
    let mut command = otaru(&["image", "make", "--chip", "esp32c3", "--project", "lamp", "--size", "200K"]);
    command.args(["--version", version, "--behaviour", behaviour, "-o"]).arg(&file);
    run(command).with_code(0);
    file
}

/// Virtual devices, up and connected.
pub(crate) fn devices(broker: &str, dir: &Path, firmware: &Path, count: usize) -> Running {
    let mut command = otaru(&["sim", "--speed", "8", "--broker", broker, "--devices", &count.to_string()]);
    command.arg("--dir").arg(dir.join("boards")).arg("--firmware").arg(firmware);
    let devices = Running::start(command);
    for _ in 0..count {
        devices.line(": idle");
    }
    devices
}

/// The slot that a flash dump's otadata selects, and that slot's first bytes.
pub(crate) fn selected(dump: &Path, len: usize) -> (u8, Vec<u8>) {
    use otaru_format::otadata::{Record, select};
    let flash = std::fs::read(dump).unwrap();
    let records = [0xE000, 0xF000].map(|at| Record::parse(&flash[at..at + 32]));
    let slot = records[select(&records).expect("otadata selects nothing")].unwrap().slot(2);
    let at = [0x2_0000, 0x21_0000][usize::from(slot)];
    (slot, flash[at..at + len].to_vec())
}

/// Tells that a test could not run, to whoever reads its output and to the summary of `cargo xtask test`.
pub(crate) fn skip(test: &str, reason: &str) {
    use std::io::Write as _;
    let line = format!("{test}: {reason}");
    eprintln!("SKIPPED: {line}");
    let log = std::env::var_os("OTARU_SKIP_LOG");
    let file = log.and_then(|log| std::fs::OpenOptions::new().create(true).append(true).open(log).ok());
    if let Some(mut file) = file {
        // One write, for tests run side by side.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
