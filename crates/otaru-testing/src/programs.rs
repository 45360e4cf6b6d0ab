//! Other programs: found or skipped over, run beside the test, read, frozen, and ended with it.

use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::skip::skipped;
use crate::wait::{LIMIT, eventually};

/// Tells whether all these programs are there; skips the test loudly otherwise.
pub fn have(programs: &[&str]) -> bool {
    let Some(missing) = programs.iter().find(|name| find(name).is_none()) else { return true };
    skipped(&match *missing {
        "chromium" | "caddy" | "curl" | "faketime" | "haproxy" | "nats-server" | "openssl" | "pgbouncer"
        | "rabbitmq-server" | "sslscan" | "strace" => {
            format!("no {missing}: apt-get install {missing}")
        }
        "pebble" | "pebble-challtestsrv" => "no pebble: apt-get install pebble".to_owned(),
        "systemd-analyze" => "no systemd-analyze: apt-get install systemd".to_owned(),
        "epmd" => "no epmd: apt-get install rabbitmq-server".to_owned(),
        _ => format!("no {missing}: apt-get install mosquitto mosquitto-clients nginx-light python3"),
    });
    false
}

/// Finds a program on the PATH, or where Debian keeps servers.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Returns a command for a program that [`have`] found.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap());
    command.stdin(Stdio::null());
    command
}

/// A program that runs beside the test and ends with it.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it and keeps what it says on both its outputs.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::default();
        listen(child.stdout.take().unwrap(), &said);
        listen(child.stderr.take().unwrap(), &said);
        Self { child, said }
    }

    /// Starts a server and waits until it listens.
    #[track_caller]
    pub fn server(command: Command, port: u16) -> Self {
        Self::server_within(LIMIT, command, port)
    }

    /// The same of one that takes its time.
    #[track_caller]
    pub fn server_within(limit: Duration, command: Command, port: u16) -> Self {
        let mut server = Self::start(command);
        eventually("a server to listen", limit, || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {:?}", server.lines());
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        server
    }

    /// Returns the id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines that it said so far.
    pub fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "no line with {text:?}, but:\n{}", lines.join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it from doing anything while its sockets stay open.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Presses Ctrl-C and waits for the end.
    #[track_caller]
    pub fn interrupt(mut self) {
        self.signal("-INT");
        eventually("the end after Ctrl-C", LIMIT, || self.child.try_wait().unwrap());
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(pipe: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            said.lock().unwrap().push(line);
        }
    });
}
