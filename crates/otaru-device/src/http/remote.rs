//! One file on a server, read from any byte of it on, over as many attempts as that takes.
//!
//! The first request asks for all of the file; later ones for the rest (`Range`), provided it is still the same
//! (`If-Range` with the validator of the first answer, RFC 9110 sections 13.1.5 and 14). A server that answers with the whole
//! file instead is read from its start, so no byte is ever taken for another. The reader sees none of this, but for one
//! thing: a file that changed is read from its start again, which [`FetchError::StartOver`] says.
//!
//! Over TLS a handshake costs a chip seconds, so there a request asks for no more than the reader wants, and the next one goes over
//! the same connection. One that has ended by then is opened anew, which is no attempt.

use embedded_nal_async::{Dns, TcpConnect};
use otaru_format::url::AllowedHost;

use super::arriving::Arriving;
use super::config::HttpConfig;
use super::error::FetchError;
use super::head::{Answer, Kind, Validator};
use super::url::{MAX_TARGET, Target};
use crate::board::Clock;
use crate::dial::{Dialed, Dialer};
use crate::timeout::within;
use crate::tls::Tls;

mod asking;
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
    /// The URL, and behind it the headers, and then the body's pieces.
    buf: &'a mut [u8; BUFFER],
    /// The byte that the reader takes next.
    wanted: u32,
    /// The byte that the reader will not read up to for now, as far as is known.
    end: u32,
    /// The byte that the answer brings next, or that the next one is asked for. Never beyond `wanted`.
    at: u32,
    total: Option<u32>,
    validator: Validator,
    /// Place of the last request: of the connection, while there is one.
    target: Target,
    /// The connection of the answer, or one that was kept for the next.
    connection: Option<Dialed<'a, N, T>>,
    answer: Option<Arriving>,
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
            end: u32::MAX,
            at: 0,
            total: None,
            validator: Validator::NONE,
            target: Target::EMPTY,
            connection: None,
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

    /// Sets the byte that the reader does not read up to for now, [`u32::MAX`] for the file's end. Over TLS no more is asked for until
    /// that byte is wanted, so that the connection is free for another request.
    pub(crate) const fn set_end(&mut self, end: u32) {
        self.end = end;
    }

    /// Goes on at another byte of the file. A short way ahead is read and dropped, and any way where the server knows no ranges, or
    /// to the near end of what was asked for; else there is another request.
    pub(crate) fn seek(&mut self, offset: u32) {
        self.wanted = offset;
        let gap = offset.checked_sub(self.at);
        let passes =
            |answer: &Arriving| gap.is_some_and(|gap| gap <= SKIP || answer.is_whole || answer.room <= SKIP);
        if !self.answer.as_ref().is_some_and(passes) {
            self.close();
            self.at = offset;
        }
    }

    /// Ends the connection, if there is one. Reading goes on with another.
    pub(crate) fn close(&mut self) {
        (self.answer, self.connection) = (None, None);
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
            if filled == Ok(0) && self.ends_part() {
                continue;
            }
            if filled.is_err() && self.answer.is_none() {
                self.connection = None;
            }
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
        self.answer.as_ref().map_or(&[], |answer| answer.body.piece(&self.buf[MAX_TARGET..]))
    }

    /// Drops the first `count` bytes of the piece.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(answer) = &mut self.answer {
            let count = count.min(answer.body.piece(&self.buf[MAX_TARGET..]).len()) as u32;
            answer.consume(count);
            self.at = self.at.saturating_add(count);
            self.wanted = self.at;
        }
    }

    /// Waits for bytes of the answer, and passes over those in front of the ones that are wanted.
    async fn receive(&mut self) -> Result<usize, FetchError> {
        let Some((answer, socket)) = self.answer.as_mut().zip(self.connection.as_mut()) else {
            return Err(FetchError::Connect);
        };
        loop {
            let wait = answer.pace.wait(self.clock, &self.config);
            let filled =
                within(self.clock, wait, answer.body.fill(socket, &mut self.buf[MAX_TARGET..])).await;
            let count = filled.map_err(|_| FetchError::Stalled)??;
            answer.pace.hand_over(self.clock);
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

    /// Ends an answer that brought all that was asked for, though the file goes on. Returns whether it was one.
    fn ends_part(&mut self) -> bool {
        let is_part = |answer: &Arriving| answer.end == self.at && self.total != Some(self.at);
        let Some(answer) = self.answer.take_if(|answer| is_part(answer)) else { return false };
        if !answer.leaves_connection() {
            self.connection = None;
        }
        true
    }

    /// Decides by the head whether the body is what was asked for, and where in the file it begins.
    fn judge(&mut self, answer: &Answer, end: u32) -> Result<BodyStart, FetchError> {
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
            let was_asked = self.at > 0 || end < u32::MAX;
            let part = answer.part.filter(|_| was_asked).ok_or(FetchError::BadResponse)?;
            if self.at == 0 {
                // The first part of a file tells which version it is of.
                (self.total, self.validator) = (total, answer.validator.clone());
            // A part need not repeat the date it was asked for by (RFC 9110 section 15.3.7).
            } else if has_other_total || has_other_version && self.validator.is_like(&answer.validator) {
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
