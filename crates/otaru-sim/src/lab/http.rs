//! An HTTP server in memory that answers as told: well, or badly in every way there is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use embedded_io_async::{Read as _, Write as _};
use otaru_device::Clock as _;

use crate::clock::SimClock;
use crate::lab::pipe::{self, HostConfig, Pipe};
use crate::lan::Lan;

/// The port it listens at.
pub const PORT: u16 = 80;
/// The port it listens at with TLS.
pub const TLS_PORT: u16 = 443;

/// A request, as far as answers depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Number of the request, counted from 0.
    pub number: usize,
    /// Path and query.
    pub path: String,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the start of the requested range.
    pub fn from(&self) -> Option<usize> {
        self.range()?.0
    }

    /// Returns start of the requested range, and the last byte where one is named.
    fn range(&self) -> Option<(Option<usize>, Option<usize>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok(), last.parse().ok()))
    }
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes a few at a time.
    Drip {
        /// All of them.
        bytes: Vec<u8>,
        /// Number of bytes at once.
        step: usize,
        /// The pause after each step.
        pause: Duration,
    },
    /// Sends for ever.
    Endless,
    /// Says nothing any more, but keeps the connection.
    Stall,
    /// Breaks the connection.
    Reset,
    /// Closes the connection.
    Close,
}

/// Function that answers a request.
pub type Handler = Rc<dyn Fn(&Request) -> Vec<Act>>;

/// The server; clones share it.
#[derive(Clone)]
pub struct Http {
    clock: SimClock,
    handler: Rc<RefCell<Handler>>,
    requests: Rc<RefCell<Vec<Request>>>,
    sent: Rc<Cell<u64>>,
    handshakes: Rc<Cell<usize>>,
}

impl Http {
    /// Starts a server that knows no path, as a task of the current `LocalSet`; with `tls` at a second port, too.
    pub fn start(lan: &Lan, clock: SimClock, tls: Option<HostConfig>) -> Self {
        let http = Self {
            clock,
            handler: Rc::new(RefCell::new(Rc::new(|_| vec![head(404, &[("Content-Length", "0")])]))),
            requests: Rc::default(),
            sent: Rc::default(),
            handshakes: Rc::default(),
        };
        let this = http.clone();
        let serve = move |pipe| {
            let this = this.clone();
            this.handshakes.update(|count| count + usize::from(matches!(pipe, Pipe::Tls(_))));
            async move { this.serve(pipe).await }
        };
        if tls.is_some() {
            pipe::serve(lan, TLS_PORT, tls, serve.clone());
        }
        pipe::serve(lan, PORT, None, serve);
        http
    }

    /// Answers requests this way from now on.
    pub fn handle(&self, handler: impl Fn(&Request) -> Vec<Act> + 'static) {
        *self.handler.borrow_mut() = Rc::new(handler);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    /// Bytes that went to the network so far, headers included.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// TLS handshakes that were done so far.
    pub fn handshakes(&self) -> usize {
        self.handshakes.get()
    }

    async fn serve(&self, mut stream: Pipe) {
        let mut bytes = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                    break end + 4;
                }
                let mut buf = [0; 1024];
                match stream.read(&mut buf).await {
                    Ok(count) if count > 0 => bytes.extend_from_slice(&buf[..count]),
                    _ => return,
                }
            };
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end);
            let request = self.note(&text);
            let handler = Rc::clone(&self.handler.borrow());
            for act in handler(&request) {
                if !self.perform(act, &mut stream).await {
                    return;
                }
            }
        }
    }

    fn note(&self, text: &str) -> Request {
        let mut lines = text.split("\r\n");
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let header = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let mut requests = self.requests.borrow_mut();
        let request = Request { number: requests.len(), path, headers: lines.filter_map(header).collect() };
        requests.push(request.clone());
        request
    }

    /// Does one step; says whether the connection goes on.
    async fn perform(&self, act: Act, stream: &mut Pipe) -> bool {
        match act {
            Act::Send(bytes) => {
                for piece in bytes.chunks(512) {
                    if stream.write_all(piece).await.is_err() {
                        return false;
                    }
                    self.sent.set(self.sent.get() + piece.len() as u64);
                }
                true
            }
            Act::Drip { bytes, step, pause } => {
                for piece in bytes.chunks(step.max(1)) {
                    if stream.write_all(piece).await.is_err() {
                        return false;
                    }
                    self.clock.sleep(pause).await;
                }
                true
            }
            Act::Endless => {
                while stream.write_all(&[0x55; 1024]).await.is_ok() {}
                false
            }
            Act::Stall => {
                // Until the other side gives up.
                let mut buf = [0; 64];
                while matches!(stream.read(&mut buf).await, Ok(count) if count > 0) {}
                false
            }
            Act::Reset => {
                stream.reset();
                false
            }
            Act::Close => {
                stream.close().await;
                false
            }
        }
    }
}

/// Status line and headers.
pub fn head(status: u16, headers: &[(&str, &str)]) -> Act {
    let mut text = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    Act::Send((text + "\r\n").into_bytes())
}

/// A good answer: the whole file, or the rest of it where `Range` and `If-Range` ask for that.
pub fn file(request: &Request, bytes: &[u8], etag: &str) -> Vec<Act> {
    let fits = request.header("if-range").is_none_or(|wanted| wanted == etag);
    match request.from().filter(|_| fits) {
        Some(from) if from < bytes.len() => {
            let last = request.range().and_then(|range| range.1).unwrap_or(usize::MAX).min(bytes.len() - 1);
            let range = format!("bytes {from}-{last}/{}", bytes.len());
            let length = (last + 1 - from).to_string();
            let headers = [("Content-Length", length.as_str()), ("Content-Range", &range), ("ETag", etag)];
            vec![head(206, &headers), Act::Send(bytes[from..=last].to_vec())]
        }
        Some(_) => {
            let range = format!("bytes */{}", bytes.len());
            vec![head(416, &[("Content-Length", "0"), ("Content-Range", &range)])]
        }
        None => {
            let length = bytes.len().to_string();
            vec![head(200, &[("Content-Length", &length), ("ETag", etag)]), Act::Send(bytes.to_vec())]
        }
    }
}
