//! Somebody who means well: asks at a steady pace, each time over a new connection, and notes how long it took.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::socket::socket;
use super::target::Target;

/// The time between two requests.
const PACE: Duration = Duration::from_millis(50);
/// Requests that may be under way at once.
const AT_ONCE: usize = 40;
/// Most time for a request.
const LIMIT: Duration = Duration::from_secs(20);
/// Address of this client: another than any that attacks.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// A client that means well.
pub(super) struct Honest<'a> {
    target: &'a Target,
    cookie: String,
}

/// Outcome of a request.
pub(super) struct Asked {
    took: Duration,
    failed: Option<String>,
}

/// Outcomes of all requests.
#[derive(Default)]
pub(super) struct Answers(pub(super) Vec<Asked>);

impl Answers {
    /// The time in which so many of a hundred were answered.
    pub(super) fn percentile(&self, per_cent: usize) -> Duration {
        let mut times: Vec<Duration> = self.0.iter().map(|asked| asked.took).collect();
        times.sort();
        times
            .get((times.len() * per_cent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// Why requests failed.
    pub(super) fn failures(&self) -> Vec<&str> {
        self.0.iter().filter_map(|asked| asked.failed.as_deref()).collect()
    }
}

impl<'a> Honest<'a> {
    /// Logs in.
    ///
    /// # Errors
    /// Returns an error if the server refuses the login.
    pub(super) fn new(target: &'a Target) -> Result<Self> {
        let form = format!("token={}", target.server.token);
        let host = &target.host;
        let head = format!(
            "POST {}/login HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: {}\r\n\
             Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
            target.prefix,
            form.len()
        );
        let answer = String::from_utf8(exchange(host, &head)?)?;
        let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: "));
        let cookie =
            line.and_then(|line| line.split([' ', ';']).nth(1)).context("no login at the dashboard")?;
        Ok(Self { target, cookie: cookie.to_owned() })
    }

    /// Asks for this long.
    pub(super) fn ask_for(&self, time: Duration) -> Answers {
        let (start, next) = (Instant::now(), AtomicU64::new(0));
        let answers = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let due = PACE * u32::try_from(number).unwrap_or(u32::MAX);
                        if due >= time {
                            return;
                        }
                        std::thread::sleep(due.saturating_sub(start.elapsed()));
                        let failed = self.ask(number).err().map(|error| format!("{error:#}"));
                        // From when it was due: a request that has to wait for others' end is late as well.
                        let took = start.elapsed().saturating_sub(due);
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { took, failed });
                    }
                });
            }
        });
        Answers(answers.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, number: u64) -> Result<()> {
        let Target { prefix, firmware, .. } = self.target;
        let path = match number % 5 {
            0 => format!("{prefix}/healthz"),
            1 => format!("{prefix}/readyz"),
            2 => format!("{prefix}/api/v1/devices?limit=20"),
            3 => format!("{prefix}/devices"),
            _ => firmware.clone(),
        };
        let answer = get(self.target, &path, &format!("Cookie: {}\r\n", self.cookie));
        answer.map(drop).with_context(|| path)
    }
}

/// Reads, with the admin's token, what must be there; the body of what is answered.
///
/// # Errors
/// Returns an error if the answer has another status than 200, or is not complete.
pub(super) fn get(target: &Target, path: &str, more: &str) -> Result<Vec<u8>> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{more}\r\n",
        target.host, target.server.token
    );
    body(exchange(&target.host, &head)?, 200)
}

/// The body of an answer with this status.
///
/// # Errors
/// Returns an error if the answer has another status, or is not complete.
pub(super) fn body(answer: Vec<u8>, status: u16) -> Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("closed without an answer")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), &answer[end + 4..]);
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some(&status.to_string()) {
        bail!("{first}");
    }
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    ensure!(len.is_none_or(|len| len.parse() == Ok(body.len())), "only {} bytes", body.len());
    Ok(body.to_vec())
}

/// Sends a request as it is, and gives back all of the answer.
///
/// # Errors
/// Returns an error if the connection fails, or the answer does not end in time.
pub(super) fn exchange(host: &str, request: &str) -> Result<Vec<u8>> {
    let began = Instant::now();
    let to: SocketAddr = host.parse()?;
    let socket = socket(HOME).context("no connection of one's own")?;
    let mut connection = TcpStream::from(socket);
    connection.set_nonblocking(false)?;
    connection.set_write_timeout(Some(LIMIT))?;
    rustix::net::connect(&connection, &to).context("cannot connect")?;
    connection.write_all(request.as_bytes()).context("cannot send")?;
    let (mut answer, mut some) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left =
            LIMIT.checked_sub(began.elapsed()).filter(|left| !left.is_zero()).context("no answer in time")?;
        connection.set_read_timeout(Some(left))?;
        match connection.read(&mut some).context("no answer")? {
            0 => return Ok(answer),
            len => answer.extend_from_slice(some.get(..len).unwrap_or_default()),
        }
    }
}
