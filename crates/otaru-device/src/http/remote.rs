//! One file on a server, read from any byte of it on, over as many attempts as that takes.
//!
//! The first request asks for all of the file; later ones for the rest (`Range`), provided it is still the same
//! (`If-Range` with the validator of the first answer, RFC 9110 sections 13.1.5 and 14). A server that answers with the whole
//! file instead is read from its start, so no byte is ever taken for another. The reader sees none of this, but for one
//! thing: a file that changed is read from its start again, which [`FetchError::StartOver`] says.

use core::time::Duration;

use embedded_nal_async::{Dns, TcpConnect};
use otaru_format::url::{AllowedHost, Authority, Scheme, UrlError};

use super::body::{Body, Framing};
use super::config::HttpConfig;
use super::error::FetchError;
use super::head::{Answer, Kind, Validator, read_head};
use super::request;
use super::url::{MAX_TARGET, Target};
use crate::board::Clock;
use crate::dial::{Dialed, Dialer, Limits, MayBeTls, Server};
use crate::timeout::within;
use crate::tls::Tls;

#[cfg(test)]
mod tests;

/// Bytes of the buffer that a download needs: for a URL, and for a line with one.
pub(crate) const BUFFER: usize = 2 * MAX_TARGET + 64;
/// Content changes survived by starting over.
const MAX_CHANGES: u8 = 2;
/// Bytes that are read and dropped rather than asked for anew with another request.
const SKIP: u32 = 8 * 1024;

/// Decides when, and how often, a file is asked for.
pub(crate) trait RetryPolicy {
    /// Waits until an attempt makes sense.
    async fn ready(&mut self);
    /// Waits for the next attempt, after one that broke off at byte `at` of the file.
    ///
    /// # Errors
    /// The same error, when there is to be no other attempt.
    async fn pause(&mut self, error: FetchError, at: u32) -> Result<(), FetchError>;
    /// Takes note that a redirect leads from `https://` to `http://`.
    fn left_tls(&mut self);
}

/// Need of a reader for the bytes that come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// There must be more.
    More,
    /// The file may end here.
    MayEnd,
    /// Enough has come, should the connection break.
    Enough,
}

/// A file on a server. Reading it is [`fill`](Self::fill), [`piece`](Self::piece), [`consume`](Self::consume).
pub(crate) struct RemoteFile<'a, N: TcpConnect, T: Tls, C, P> {
    dialer: Dialer<'a, N, T>,
    clock: &'a C,
    config: HttpConfig,
    hosts: &'a [AllowedHost<'a>],
    /// The file's place; redirects are followed anew in each attempt, for signed links expire.
    url: &'a str,
    policy: P,
    /// The URL and the headers, and then the body's pieces.
    buf: &'a mut [u8; BUFFER],
    /// The byte that the reader takes next.
    wanted: u32,
    /// The byte that the answer brings next, or that the next one is asked for. Never beyond `wanted`.
    at: u32,
    total: Option<u32>,
    validator: Validator,
    answer: Option<Arriving<Dialed<'a, N, T>>>,
    changes: u8,
    /// An answer was of no use, and the reader was told to start over; the attempt is to be paid for.
    is_wasted: bool,
    /// The reader holds what it reads against hashes.
    is_checked: bool,
    /// Whether something else than the way vouches for the file: a signature, or a digest that was offered. `None` before that is
    /// known.
    is_vouched: Option<bool>,
    /// A redirect led from TLS to where there is none.
    has_left_tls: bool,
}

/// An answer whose body arrives.
struct Arriving<S> {
    body: Body<S>,
    /// Bytes that it may still have.
    room: u32,
    /// The whole file came although a part was asked for.
    is_whole: bool,
    pace: Pace,
}

/// Watches how fast a body arrives.
struct Pace {
    /// Time at which it counts as stalled, by the clock.
    deadline: Duration,
    /// Time at which the reader got the last bytes.
    handed: Duration,
    /// Bytes since the deadline was set.
    arrived: u32,
}

impl<'a, N: TcpConnect + Dns, T: Tls, C: Clock, P: RetryPolicy> RemoteFile<'a, N, T, C, P> {
    /// Prepares to read the file at `url`, which may lead to one of `hosts`, or anywhere if there are none.
    pub(crate) const fn new(
        dialer: Dialer<'a, N, T>,
        clock: &'a C,
        config: HttpConfig,
        hosts: &'a [AllowedHost<'a>],
        url: &'a str,
        policy: P,
        buf: &'a mut [u8; BUFFER],
    ) -> Self {
        Self {
            dialer,
            clock,
            config,
            hosts,
            url,
            policy,
            buf,
            wanted: 0,
            at: 0,
            total: None,
            validator: Validator::NONE,
            answer: None,
            changes: 0,
            is_wasted: false,
            is_checked: false,
            is_vouched: None,
            has_left_tls: false,
        }
    }

    /// Returns the file's length in bytes, where its server tells it.
    pub(crate) const fn len(&self) -> Option<u32> {
        self.total
    }

    /// Sets whether the reader holds all it reads against hashes. One that does not must start over where the server knows no ranges,
    /// for the file may have changed without a word.
    pub(crate) const fn set_checked(&mut self, is_checked: bool) {
        self.is_checked = is_checked;
    }

    /// Takes note of whether something else than the way vouches for the file. If not, no redirect may lead from TLS to where there is
    /// none.
    ///
    /// # Errors
    /// [`FetchError::InsecureRedirect`] where one has.
    pub(crate) const fn vouch(&mut self, is_vouched: bool) -> Result<(), FetchError> {
        self.is_vouched = Some(is_vouched);
        if self.has_left_tls && !is_vouched { Err(FetchError::InsecureRedirect) } else { Ok(()) }
    }

    /// Goes on at another byte of the file. A short way ahead is read and dropped, and any way where the server knows no ranges;
    /// else there is another request.
    pub(crate) fn seek(&mut self, offset: u32) {
        self.wanted = offset;
        let gap = offset.checked_sub(self.at);
        let passes = |answer: &Arriving<_>| gap.is_some_and(|gap| gap <= SKIP || answer.is_whole);
        if !self.answer.as_ref().is_some_and(passes) {
            self.close();
            self.at = offset;
        }
    }

    /// Ends the connection, if there is one. Reading goes on with another.
    pub(crate) fn close(&mut self) {
        self.answer = None;
    }

    /// Waits for bytes, and returns how many there are: none where `need` lets the file end.
    ///
    /// # Errors
    /// [`FetchError::StartOver`] when what was read does not count any more, and the next bytes are the file's first. Any other
    /// error is the end.
    pub(crate) async fn fill(&mut self, need: Need) -> Result<usize, FetchError> {
        loop {
            let opened = if self.answer.is_none() { self.open().await } else { Ok(()) };
            let filled = match opened {
                Ok(()) => self.receive().await,
                Err(error) => Err(error),
            };
            let error = match filled {
                Ok(0) if need == Need::More => FetchError::Truncated,
                Err(FetchError::StartOver) => return filled,
                Err(error) if need != Need::Enough => error,
                _ => return Ok(filled.unwrap_or(0)),
            };
            self.close();
            self.policy.pause(error, self.at).await?;
        }
    }

    /// Returns the bytes that [`fill`](Self::fill) waited for, until they are consumed.
    pub(crate) fn piece(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| answer.body.piece(&*self.buf))
    }

    /// Drops the first `count` bytes of the piece.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(answer) = &mut self.answer {
            let count = count.min(answer.body.piece(&*self.buf).len()) as u32;
            answer.consume(count);
            self.at = self.at.saturating_add(count);
            self.wanted = self.at;
        }
    }

    /// Waits for bytes of the answer, and passes over those in front of the ones that are wanted.
    async fn receive(&mut self) -> Result<usize, FetchError> {
        let Some(answer) = &mut self.answer else { return Err(FetchError::Connect) };
        loop {
            let wait = answer.pace.wait(self.clock, &self.config);
            let filled = within(self.clock, wait, answer.body.fill(&mut *self.buf)).await;
            let count = filled.map_err(|_| FetchError::Stalled)??;
            answer.pace.handed = self.clock.now();
            if count == 0 {
                return if answer.body.is_whole() { Ok(0) } else { Err(FetchError::Truncated) };
            }
            // Chunks may hold more than the range that was announced; those bytes are of no known place.
            let len = u32::try_from(count).ok().filter(|len| *len <= answer.room);
            let len = len.ok_or(FetchError::BadResponse)?;
            let skip = len.min(self.wanted.saturating_sub(self.at));
            answer.consume(skip);
            self.at = self.at.checked_add(skip).ok_or(FetchError::BadResponse)?;
            if skip < len {
                return Ok((len - skip) as usize);
            }
        }
    }

    /// Asks for the file, or the rest of it, and follows redirects.
    async fn open(&mut self) -> Result<(), FetchError> {
        if core::mem::take(&mut self.is_wasted) {
            return Err(FetchError::Truncated);
        }
        self.policy.ready().await;
        let mut target = Target::default();
        target.follow(self.url.as_bytes(), &mut self.buf[..MAX_TARGET]).map_err(FetchError::BadUrl)?;
        for redirects in 0..=self.config.max_redirects {
            let scheme = target.scheme();
            if self.request(&mut target, redirects > 0).await? {
                return Ok(());
            }
            if scheme == Scheme::Https && target.scheme() == Scheme::Http {
                self.has_left_tls = true;
                if self.is_vouched == Some(false) {
                    return Err(FetchError::InsecureRedirect);
                }
                self.policy.left_tls();
            }
        }
        Err(FetchError::TooManyRedirects)
    }

    /// Makes one request; returns false when it was redirected to another target.
    async fn request(&mut self, target: &mut Target, is_redirected: bool) -> Result<bool, FetchError> {
        let (text, rest) = self.buf.split_at_mut(MAX_TARGET);
        let authority = Authority::parse(target.authority(text)).map_err(FetchError::BadUrl)?;
        let tls = target.scheme() == Scheme::Https;
        if tls && !self.dialer.tls.is_ready() {
            let why = UrlError::Https;
            return Err(if is_redirected { FetchError::BadRedirect(why) } else { FetchError::BadUrl(why) });
        }
        let port = authority.port.unwrap_or(target.scheme().default_port());
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.allows(&authority, port)) {
            return Err(FetchError::HostNotAllowed { is_redirected });
        }
        let server = Server { host: authority.host, address: authority.address(), port, tls };
        let (connect, handshake) = (self.config.connect_timeout, self.config.handshake_timeout);
        let mut socket = self.dialer.dial(server, self.clock, Limits { connect, handshake }).await?;
        let (offset, validator) = (self.at, self.validator.for_if_range());
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
        let place = self.judge(&answer)?;
        let framing = match (answer.framing, answer.part) {
            (Framing::Close, Some(part)) => Framing::Length(part.len),
            (framing, _) => framing,
        };
        let now = self.clock.now();
        self.answer = Some(Arriving {
            body: Body::new(socket, held.start + MAX_TARGET..held.end + MAX_TARGET, framing),
            room: answer.part.map_or(u32::MAX, |part| part.len),
            is_whole: place != BodyStart::AsAsked,
            pace: Pace { deadline: now + self.config.stall_timeout, handed: now, arrived: 0 },
        });
        if place == BodyStart::StartOver { Err(FetchError::StartOver) } else { Ok(true) }
    }

    /// Decides by the head whether the body is what was asked for, and where in the file it begins.
    fn judge(&mut self, answer: &Answer) -> Result<BodyStart, FetchError> {
        match answer.kind {
            Kind::Whole | Kind::Part => {}
            // The file has no more bytes than are here already, and the image wants more.
            Kind::NoRange if self.at > 0 && answer.length_of_file == Some(self.at) => {
                return Err(FetchError::ShortFile);
            }
            Kind::NoRange if self.at > 0 => return Err(self.waste()),
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
            let part = answer.part.filter(|_| self.at > 0).ok_or(FetchError::BadResponse)?;
            // A part need not repeat the date it was asked for by (RFC 9110 section 15.3.7).
            if has_other_total || has_other_version && self.validator.is_like(&answer.validator) {
                return Err(self.waste());
            }
            if part.first != self.at || answer.length.is_some_and(|length| length != part.len) {
                return Err(FetchError::BadResponse);
            }
            self.total = self.total.or(total);
            return Ok(BodyStart::AsAsked);
        }
        let place = if self.at == 0 {
            BodyStart::AsAsked
        } else if has_other_total || has_other_version && !self.validator.is_none() {
            match self.count_change() {
                FetchError::StartOver => BodyStart::StartOver,
                error => return Err(error),
            }
        } else if self.is_checked {
            // The server does not know ranges; that is no change of content.
            self.at = 0;
            BodyStart::Start
        } else {
            (self.at, self.wanted) = (0, 0);
            BodyStart::StartOver
        };
        self.total = total;
        self.validator = answer.validator.clone();
        Ok(place)
    }

    /// Forgets the file, which is another one now; returns the error that says so.
    fn count_change(&mut self) -> FetchError {
        (self.at, self.wanted) = (0, 0);
        self.total = None;
        self.validator = Validator::NONE;
        self.changes += 1;
        if self.changes > MAX_CHANGES { FetchError::ContentChanged } else { FetchError::StartOver }
    }

    /// The same, where the answer does not bring the other file either.
    fn waste(&mut self) -> FetchError {
        self.is_wasted = true;
        self.count_change()
    }
}

/// Place in the file at which an answer's body begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyStart {
    /// At the start of the range that was asked for.
    AsAsked,
    /// At the start of the same file.
    Start,
    /// At the start, and what was read before does not count.
    StartOver,
}

impl<S: embedded_io_async::Read<Error: MayBeTls>> Arriving<S> {
    fn consume(&mut self, count: u32) {
        self.body.consume(count);
        self.room = self.room.saturating_sub(count);
        self.pace.arrived = self.pace.arrived.saturating_add(count);
    }
}

impl Pace {
    /// Returns how long to wait for the next bytes. Time the reader took is not the server's fault.
    fn wait(&mut self, clock: &impl Clock, config: &HttpConfig) -> Duration {
        let now = clock.now();
        self.deadline += now.saturating_sub(self.handed);
        self.handed = now;
        if self.arrived >= config.least_rate {
            self.arrived = 0;
            self.deadline = now + config.stall_timeout;
        }
        self.deadline.saturating_sub(now)
    }
}
