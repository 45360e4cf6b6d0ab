//! One file, over as many attempts as it takes.
//!
//! The first attempt asks for all of it; later ones for the rest (`Range`), provided it is still the same file
//! (`If-Range` with the validator of the first answer, RFC 9110 sections 13.1.5 and 14). A server that answers
//! with the whole file instead makes the sink start again, so no byte ever lands in the wrong place.

use embedded_io_async::{Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};
use heapless::String;
use otaru_format::command::MAX_URL;

use super::request::compose;
use super::response::{Answer, Body, read_head};
use super::url::UrlError;
use super::{FetchError, HttpConfig, Url};
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
    /// Where the file is; redirects are followed anew in each attempt, for signed links expire.
    url: &'a str,
    offset: u32,
    total: Option<u32>,
    validator: String<96>,
    changes: u8,
}

impl<'a, N: TcpConnect + Dns, C: Clock> Download<'a, N, C> {
    /// Prepares to fetch `url`.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub fn new<E>(net: &'a N, clock: &'a C, config: HttpConfig, url: &'a str) -> Result<Self, FetchError<E>> {
        Url::parse(url).map_err(url_error)?;
        Ok(Self { net, clock, config, url, offset: 0, total: None, validator: String::new(), changes: 0 })
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

    /// One attempt: from where the last one ended to the end of the file. `buf` holds the headers, and then
    /// the body's pieces.
    ///
    /// # Errors
    /// Why the attempt ended early; the next one continues.
    pub async fn run<S: Sink>(&mut self, buf: &mut [u8], sink: &mut S) -> Result<(), FetchError<S::Error>> {
        let mut url: String<MAX_URL> = String::try_from(self.url).map_err(|_| FetchError::BadUrl)?;
        for _ in 0..=self.config.max_redirects {
            match self.request(&url, buf, sink).await? {
                None => return Ok(()),
                Some(next) => url = next,
            }
        }
        Err(FetchError::TooManyRedirects)
    }

    /// One request; gives back where it was redirected to.
    async fn request<S: Sink>(
        &mut self,
        url: &str,
        buf: &mut [u8],
        sink: &mut S,
    ) -> Result<Option<String<MAX_URL>>, FetchError<S::Error>> {
        let url = Url::parse(url).map_err(url_error)?;
        let mut socket = self.connect(&url).await?;
        let len = compose(&url, self.offset, &self.validator, buf).ok_or(FetchError::BadUrl)?;
        let exchange = async {
            socket.write_all(&buf[..len]).await.map_err(|_| FetchError::Connect)?;
            socket.flush().await.map_err(|_| FetchError::Connect)?;
            read_head(&mut socket, buf).await
        };
        let limit = self.config.first_byte_timeout;
        let (head, have) = within(self.clock, limit, exchange).await.map_err(|_| FetchError::Timeout)??;
        let answer = Answer::parse(&buf[..head])?;
        if let Some(location) = answer.location {
            return url.join(location).map(Some).map_err(url_error);
        }
        self.accept(&answer, sink).await?;
        let framing = answer.framing;
        self.transfer(&mut Body::new(socket, buf, head..have, framing), sink).await?;
        Ok(None)
    }

    async fn connect<E>(&self, url: &Url<'_>) -> Result<N::Connection<'a>, FetchError<E>> {
        within(self.clock, self.config.connect_timeout, async {
            let address = match url.host().parse() {
                Ok(address) => address,
                Err(_) => self
                    .net
                    .get_host_by_name(url.host(), AddrType::Either)
                    .await
                    .map_err(|_| FetchError::Dns)?,
            };
            self.net.connect((address, url.port()).into()).await.map_err(|_| FetchError::Connect)
        })
        .await
        .map_err(|_| FetchError::Timeout)?
    }

    /// Decides by the headers whether the body is what was asked for, and from where it counts.
    async fn accept<S: Sink>(
        &mut self,
        answer: &Answer<'_>,
        sink: &mut S,
    ) -> Result<(), FetchError<S::Error>> {
        match answer.status {
            200 | 206 => {}
            // The file has no more bytes than are here already, and the image wants more.
            416 if self.offset > 0 && answer.length_of_file == Some(self.offset) => {
                return Err(FetchError::ShortFile);
            }
            416 if self.offset > 0 => {
                self.start_again(sink).await?;
                return Err(FetchError::Truncated);
            }
            status => return Err(FetchError::HttpStatus { status, retry_after: answer.retry_after }),
        }
        if answer.compressed {
            return Err(FetchError::Compressed);
        }
        let changed = !self.validator.is_empty() && self.validator != answer.validator;
        if answer.status == 206 {
            let (start, total) = answer.range.ok_or(FetchError::BadResponse)?;
            if changed || (total.is_some() && self.total.is_some() && total != self.total) {
                self.start_again(sink).await?;
                return Err(FetchError::Truncated);
            }
            if start != self.offset {
                return Err(FetchError::BadResponse);
            }
            return Ok(());
        }
        if self.offset > 0 {
            if changed {
                self.start_again(sink).await?;
            } else {
                // The server does not know ranges; that is no change of content.
                self.offset = 0;
                sink.restart(Restart::NoRanges).await.map_err(FetchError::Sink)?;
            }
        }
        self.total = answer.length;
        // A validator that does not fit is as good as none.
        self.validator = String::try_from(answer.validator).unwrap_or_default();
        sink.begin(self.total).await.map_err(FetchError::Sink)
    }

    async fn start_again<S: Sink>(&mut self, sink: &mut S) -> Result<(), FetchError<S::Error>> {
        self.offset = 0;
        self.total = None;
        self.validator.clear();
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

fn url_error<E>(error: UrlError) -> FetchError<E> {
    match error {
        UrlError::Scheme => FetchError::UnsupportedScheme,
        UrlError::Malformed => FetchError::BadUrl,
    }
}
