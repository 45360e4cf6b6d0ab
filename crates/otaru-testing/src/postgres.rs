//! PostgreSQL for tests: a server of one's own, and fresh databases on a server that tests share.
//!
//! With `OTARU_TEST_POSTGRES=postgres://USER@HOST:PORT` set, [`Database::at`] gives databases there instead of files, so that the same
//! tests run over either.

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::command::run;
use crate::programs::{Program, find};
use crate::skip::skipped;
use crate::wait::{LIMIT, eventually, free_port};

/// Names the server that tests share.
pub const SHARED: &str = "OTARU_TEST_POSTGRES";

/// User that owns everything.
const USER: &str = "otaru";

/// Settings of a server whose data need not outlive the machine's next crash.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "autovacuum_naptime=10s",
    "listen_addresses=127.0.0.1",
];

/// Functions of SQLite that only tests use.
const FUNCTIONS: &str = "
    CREATE FUNCTION zeroblob(integer) RETURNS bytea LANGUAGE sql AS $$ SELECT decode(repeat('00', $1), 'hex') $$;
    CREATE FUNCTION randomblob(integer) RETURNS bytea LANGUAGE sql VOLATILE AS
        $$ SELECT decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, $1 / 16) $$;";

/// A PostgreSQL server beside the test, which ends with it.
pub struct Postgres {
    server: Option<Program>,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// Makes an empty server and starts it; skips the test loudly where there is none on this machine.
    #[track_caller]
    pub fn start() -> Option<Self> {
        if binary("postgres").is_none() {
            skipped("no postgres: apt-get install postgresql");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root, and whom it runs as has to be let in.
        let_in(dir.path());
        let mut server = Self { server: None, port: free_port(), dir };
        let data = server.data();
        let mut initdb = unprivileged("initdb");
        initdb.arg("-D").arg(&data).args([
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        run(initdb).with_code(0);
        server.go_on();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it again after [`kill`](Self::kill) or [`shut_down`](Self::shut_down), at the same port with the same data.
    #[track_caller]
    pub fn go_on(&mut self) {
        let mut command = unprivileged("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        command.arg("-k").arg(self.dir.path());
        SETTINGS.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        self.server = Some(Program::server(command, self.port));
        eventually("PostgreSQL to take statements", LIMIT, || psql(&self.url("postgres"), "SELECT 1").ok());
    }

    /// Ends it at once, as a loss of power does.
    pub fn kill(&mut self) {
        // All of it: a process that outlives the first by a moment holds the memory that the next one wants.
        let Frozen(processes) = &self.freeze();
        self.server = None;
        signal("-KILL", processes);
        eventually("PostgreSQL's processes to end", LIMIT, || {
            processes.iter().all(|id| is_over(id)).then_some(())
        });
        let stale = self.data().join("postmaster.pid");
        eventually("PostgreSQL's port to be free", LIMIT, || {
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
        let _ = std::fs::remove_file(stale);
    }

    /// Ends it in order; what is under way is rolled back, and sessions end.
    #[track_caller]
    pub fn shut_down(&mut self) {
        let mut command = unprivileged("pg_ctl");
        command.arg("-D").arg(self.data()).args(["stop", "-m", "fast", "-w"]);
        run(command).with_code(0);
        self.server = None;
    }

    /// Stops all of its processes from doing anything, while connections stay: as on a machine that hangs. They go on when what this
    /// returns is dropped.
    #[track_caller]
    pub fn freeze(&self) -> Frozen {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap().to_owned();
        signal("-STOP", std::slice::from_ref(&first));
        // From now on it starts no more.
        let children = run(command("ps", &["-o", "pid=", "--ppid", &first].map(std::ffi::OsStr::new)));
        let children: Vec<String> = children.out.split_whitespace().map(str::to_owned).collect();
        signal("-STOP", &children);
        Frozen([vec![first], children].concat())
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and returns its URL.
    #[track_caller]
    pub fn create(&self, name: &str) -> String {
        psql(&self.url("postgres"), &format!("CREATE DATABASE {name}")).unwrap();
        self.url(name)
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the beginning of URLs, as [`SHARED`] has it.
    pub fn server_url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}", self.port)
    }
}

/// Processes that stand still for as long as this is there.
pub struct Frozen(Vec<String>);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

/// Whether a process has ended; whoever started it may not have looked yet.
fn is_over(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

fn signal(signal: &str, processes: &[String]) {
    // One that ended meanwhile is none to be told.
    let _ = Command::new("kill").arg(signal).args(processes).stderr(Stdio::null()).status();
}

/// A database for one test: a file, or an empty database on the server that tests share, which goes with this.
pub struct Database {
    location: String,
    drop: Option<(String, String)>,
}

impl Database {
    /// Returns a database: the file at `path`, or one on the shared server.
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = env::var(SHARED) else {
            return Self { location: path.display().to_string(), drop: None };
        };
        let name = format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        psql(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).unwrap();
        psql(&format!("{server}/{name}"), FUNCTIONS).unwrap();
        Self { location: format!("{server}/{name}"), drop: Some((server, name)) }
    }

    /// Returns its path, or its URL.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns its URL, if it has one.
    pub fn url(&self) -> Option<&str> {
        self.drop.is_some().then_some(&*self.location)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.drop {
            let _ = psql(&format!("{server}/postgres"), &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

/// Tells whether tests run over files of SQLite's, for a test of what only those have: it is over, and says so, where they do not.
pub fn is_sqlite() -> bool {
    let is_shared = env::var_os(SHARED).is_some();
    if is_shared {
        println!("for SQLite only; over PostgreSQL there is nothing of the kind");
    }
    !is_shared
}

/// Runs a statement and returns the answer, one line a row.
///
/// # Errors
/// Returns PostgreSQL's words when it fails.
pub fn psql(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(binary("psql").ok_or("no psql: apt-get install postgresql-client")?);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Finds a program of PostgreSQL's: on the PATH, or where Debian keeps those of each version, the newest first.
fn binary(name: &str) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|folder| folder.filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name))).collect())
        .unwrap_or_default();
    versions.sort();
    versions.into_iter().rev().find(|file| file.is_file()).or_else(|| find(name))
}

fn command(name: &str, args: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null());
    command
}

/// Gives a folder to PostgreSQL's user where this one is root.
pub(crate) fn let_in(folder: &Path) {
    if is_root() {
        run(command("chown", &["postgres".as_ref(), folder.as_os_str()])).with_code(0);
    }
}

fn is_root() -> bool {
    run(command("id", &["-u".as_ref()])).out.trim() == "0"
}

/// Returns a command for a program of PostgreSQL's, as its own user where this one is root.
fn unprivileged(name: &str) -> Command {
    as_postgres(binary(name).unwrap_or_else(|| name.into()))
}

/// Returns a command for a program that refuses to run as root, as PostgreSQL's user where this one is.
pub(crate) fn as_postgres(file: PathBuf) -> Command {
    let mut command = match is_root() {
        // Becomes the program, so that a signal reaches it.
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(file);
            command
        }
        false => Command::new(file),
    };
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}
