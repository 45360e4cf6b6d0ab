//! One file, over as many attempts as it takes.
//!
//! The first attempt asks for all of it; later ones for the rest (`Range`), provided it is still the same file
//! (`If-Range` with the validator of the first answer, RFC 9110 sections 13.1.5 and 14). A server that answers
//! with the whole file instead makes the sink start again, so no byte ever lands in the wrong place.

use embedded_io_async::Read;
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use otaru_format::url::{AllowedHost, Authority};

use super::body::{Body, Framing};
use super::head::{Answer, Kind, Validator, read_head};
use super::url::{MAX_TARGET, Target};
use super::{BUFFER, FetchError, HttpConfig, request};
use crate::board::Clock;
use crate::timeout::within;

/// Content changes survived by starting again.
const MAX_CHANGES: u8 = 2;

/// Where a download's bytes go.
pub trait Sink {
    /// Why it refuses.
    type Error;
    /// The length of the whole file is known, or known to be unknown.
    async fn begin(&mut self, total: Option<u32>) -> Result<(), Self::Error>;
    /// The bytes at `offset`, which follow the ones before.
    async fn data(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error>;
    /// The next bytes are those at 0 again.
    async fn restart(&mut self, why: Restart) -> Result<(), Self::Error>;
}

/// Why a file comes from its start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It is another file now; what came so far does not count.
    Changed,
    /// It is the same file, and the server knows no ranges.
    NoRanges,
}

/// A download and how far it got.
pub struct Download<'a, N, C> {
    net: &'a N,
    clock: &'a C,
    config: HttpConfig,
    hosts: &'a [AllowedHost<'a>],
    /// Where the file is; redirects are followed anew in each attempt, for signed links expire.
    url: &'a str,
    offset: u32,
    total: Option<u32>,
    validator: Validator,
    changes: u8,
}

impl<'a, N: TcpConnect + Dns, C: Clock> Download<'a, N, C> {
    /// Prepares to fetch `url`, which may lead to one of `hosts`, or anywhere if there are none.
    pub const fn new(
        net: &'a N,
        clock: &'a C,
        config: HttpConfig,
        hosts: &'a [AllowedHost<'a>],
        url: &'a str,
    ) -> Self {
        let validator = Validator::NONE;
        Self { net, clock, config, hosts, url, offset: 0, total: None, validator, changes: 0 }
    }

    /// Bytes the sink took.
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Continues at another byte of the file. Before the first answer this does nothing useful: only with its
    /// validator is the rest known to be of the same file.
    pub const fn seek(&mut self, offset: u32) {
        self.offset = offset;
    }

    /// One attempt: from where the last one ended to the end of the file. `buf` holds the URL and the headers, and then
    /// the body's pieces.
    ///
    /// # Errors
    /// Why the attempt ended early; the next one continues.
    pub async fn run<S: Sink>(
        &mut self,
        buf: &mut [u8; BUFFER],
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        let mut target = Target::default();
        target.follow(self.url.as_bytes(), &mut buf[..MAX_TARGET]).map_err(FetchError::BadUrl)?;
        for redirects in 0..=self.config.max_redirects {
            if self.request(&mut target, redirects > 0, buf, sink).await? {
                return Ok(());
            }
        }
        Err(FetchError::TooManyRedirects)
    }

    /// One request; false when it was redirected to another target.
    async fn request<S: Sink>(
        &mut self,
        target: &mut Target,
        is_redirected: bool,
        buf: &mut [u8; BUFFER],
        sink: &mut S,
    ) -> Result<bool, FetchError<S::Error>> {
        let (text, rest) = buf.split_at_mut(MAX_TARGET);
        let authority = Authority::parse(target.authority(text)).map_err(FetchError::BadUrl)?;
        let port = authority.port.unwrap_or(80);
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.allows(&authority, port)) {
            return Err(FetchError::HostNotAllowed { is_redirected });
        }
        let mut socket = self.connect(&authority, port).await?;
        let (offset, validator) = (self.offset, self.validator.for_if_range());
        let exchange = async {
            let sent = request::send(&mut socket, target, offset, validator, text, rest).await;
            sent.ok_or(FetchError::Connect)?;
            read_head(&mut socket, target, text, rest).await
        };
        let limit = self.config.first_byte_timeout;
        let (answer, held) = within(self.clock, limit, exchange).await.map_err(|_| FetchError::Timeout)??;
        if let Some(location) = answer.location {
            return location.map(|()| false).map_err(FetchError::BadRedirect);
        }
        let framing = self.accept(&answer, sink).await?;
        let held = held.start + MAX_TARGET..held.end + MAX_TARGET;
        let room = answer.part.map_or(u32::MAX, |part| part.len);
        self.transfer(&mut Body::new(socket, buf, held, framing), room, sink).await?;
        Ok(true)
    }

    async fn connect<E>(
        &self,
        server: &Authority<'_>,
        port: u16,
    ) -> Result<N::Connection<'a>, FetchError<E>> {
        within(self.clock, self.config.connect_timeout, async {
            let address = match server.address() {
                Some(address) => address,
                None => self
                    .net
                    .get_host_by_name(server.host, AddrType::Either)
                    .await
                    .map_err(|_| FetchError::Dns)?,
            };
            self.net.connect((address, port).into()).await.map_err(|_| FetchError::Connect)
        })
        .await
        .map_err(|_| FetchError::Timeout)?
    }

    /// Decides by the head whether the body is what was asked for, from where it counts, and how it ends.
    async fn accept<S: Sink>(
        &mut self,
        answer: &Answer,
        sink: &mut S,
    ) -> Result<Framing, FetchError<S::Error>> {
        match answer.kind {
            Kind::Whole | Kind::Part => {}
            // The file has no more bytes than are here already, and the image wants more.
            Kind::NoRange if self.offset > 0 && answer.length_of_file == Some(self.offset) => {
                return Err(FetchError::ShortFile);
            }
            Kind::NoRange if self.offset > 0 => {
                self.start_again(sink).await?;
                return Err(FetchError::Truncated);
            }
            _ => {
                return Err(FetchError::HttpStatus {
                    status: answer.status,
                    retry_after: answer.retry_after,
                });
            }
        }
        if answer.is_compressed {
            return Err(FetchError::Compressed);
        }
        let total = answer.part.map_or(answer.length, |part| part.total);
        let has_other_total = total.zip(self.total).is_some_and(|(now, before)| now != before);
        let has_other_version = self.validator != answer.validator;
        if answer.kind == Kind::Part {
            let part = answer.part.filter(|_| self.offset > 0).ok_or(FetchError::BadResponse)?;
            // A part need not repeat the date it was asked for by (RFC 9110 section 15.3.7).
            if has_other_total || has_other_version && self.validator.is_like(&answer.validator) {
                self.start_again(sink).await?;
                return Err(FetchError::Truncated);
            }
            if part.first != self.offset || answer.length.is_some_and(|length| length != part.len) {
                return Err(FetchError::BadResponse);
            }
            self.total = self.total.or(total);
            return Ok(match answer.framing {
                Framing::Close => Framing::Length(part.len),
                framing => framing,
            });
        }
        if self.offset > 0 {
            if has_other_total || has_other_version && !self.validator.is_none() {
                self.start_again(sink).await?;
            } else {
                // The server does not know ranges; that is no change of content.
                self.offset = 0;
                sink.restart(Restart::NoRanges).await.map_err(FetchError::Sink)?;
            }
        }
        self.total = total;
        self.validator = answer.validator.clone();
        sink.begin(total).await.map_err(FetchError::Sink)?;
        Ok(answer.framing)
    }

    async fn start_again<S: Sink>(&mut self, sink: &mut S) -> Result<(), FetchError<S::Error>> {
        self.offset = 0;
        self.total = None;
        self.validator = Validator::NONE;
        self.changes += 1;
        if self.changes > MAX_CHANGES {
            return Err(FetchError::ContentChanged);
        }
        sink.restart(Restart::Changed).await.map_err(FetchError::Sink)
    }

    /// Carries the body over, watching its pace.
    async fn transfer<R: Read, S: Sink>(
        &mut self,
        body: &mut Body<'_, R>,
        mut room: u32,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        let span = self.config.stall_timeout;
        let mut deadline = self.clock.now() + span;
        let mut arrived: u32 = 0;
        loop {
            let wait = deadline.saturating_sub(self.clock.now());
            let piece = within(self.clock, wait, body.piece()).await.map_err(|_| FetchError::Stalled)??;
            if piece.is_empty() {
                return if body.is_whole() { Ok(()) } else { Err(FetchError::Truncated) };
            }
            let count = u32::try_from(piece.len()).map_err(|_| FetchError::BadResponse)?;
            // Chunks may hold more than the range that was announced; those bytes are of no known place.
            room = room.checked_sub(count).ok_or(FetchError::BadResponse)?;
            let started = self.clock.now();
            sink.data(self.offset, piece).await.map_err(FetchError::Sink)?;
            // Time the flash took is not the server's fault.
            deadline += self.clock.now().saturating_sub(started);
            body.consume(count);
            self.offset = self.offset.checked_add(count).ok_or(FetchError::BadResponse)?;
            arrived = arrived.saturating_add(count);
            if arrived >= self.config.least_rate {
                arrived = 0;
                deadline = self.clock.now() + span;
            }
        }
    }
}
