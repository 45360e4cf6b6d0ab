//! Requests of a [`RemoteFile`]: where they go, on which connection, and what they ask for.

use embedded_nal_async::{Dns, TcpConnect};
use otaru_format::url::{Authority, Scheme, UrlError};

use super::super::arriving::{Arriving, Pace};
use super::super::body::{Body, Framing};
use super::super::error::FetchError;
use super::super::head::{Kind, read_head};
use super::super::request::{self, Wanted};
use super::super::url::{MAX_TARGET, Target};
use super::{BodyStart, RemoteFile, RetryPolicy};
use crate::board::Clock;
use crate::dial::{Limits, Server};
use crate::timeout::within;
use crate::tls::Tls;

impl<N: TcpConnect + Dns, T: Tls, C: Clock, P: RetryPolicy> RemoteFile<'_, N, T, C, P> {
    /// Asks for the file, or the rest of it, and follows redirects.
    pub(super) async fn open(&mut self) -> Result<(), FetchError> {
        if core::mem::take(&mut self.is_wasted) {
            return Err(FetchError::Truncated);
        }
        self.policy.ready().await;
        self.at = self.wanted;
        let mut redirects = 0;
        let mut is_again = self.connection.is_some();
        if !is_again {
            self.aim()?;
        }
        loop {
            let scheme = self.target.scheme();
            match self.request(redirects > 0).await {
                Ok(true) => return Ok(()),
                Ok(false) if redirects >= self.config.max_redirects => {
                    return Err(FetchError::TooManyRedirects);
                }
                Ok(false) => redirects += 1,
                Err(error) if is_again && is_stale(&error) => {
                    (is_again, redirects) = (false, 0);
                    self.connection = None;
                    self.aim()?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            is_again = false;
            if scheme == Scheme::Https && self.target.scheme() == Scheme::Http {
                self.has_left_tls = true;
                if self.is_vouched == Some(false) {
                    return Err(FetchError::InsecureRedirect);
                }
                self.policy.left_tls();
            }
        }
    }

    /// Begins at the URL of the command.
    fn aim(&mut self) -> Result<(), FetchError> {
        self.target = Target::default();
        self.target.follow(self.url.as_bytes(), &mut self.buf[..MAX_TARGET]).map_err(FetchError::BadUrl)
    }

    /// Connects to the target.
    async fn connect(&mut self, is_redirected: bool) -> Result<(), FetchError> {
        let authority = self.target.authority(&self.buf[..MAX_TARGET]);
        let authority = Authority::parse(authority).map_err(FetchError::BadUrl)?;
        let tls = self.target.scheme() == Scheme::Https;
        if tls && !self.dialer.tls.is_ready() {
            let why = UrlError::Https;
            return Err(if is_redirected { FetchError::BadRedirect(why) } else { FetchError::BadUrl(why) });
        }
        let port = authority.port.unwrap_or(self.target.scheme().default_port());
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.allows(&authority, port)) {
            return Err(FetchError::HostNotAllowed { is_redirected });
        }
        let server = Server { host: authority.host, address: authority.address(), port, tls };
        let (connect, handshake) = (self.config.connect_timeout, self.config.handshake_timeout);
        self.connection = Some(self.dialer.dial(server, self.clock, Limits { connect, handshake }).await?);
        Ok(())
    }

    /// Makes one request, on the connection that was kept, if one was; returns false when it was redirected to another target.
    async fn request(&mut self, is_redirected: bool) -> Result<bool, FetchError> {
        if self.connection.is_none() {
            self.connect(is_redirected).await?;
        }
        let end = self.end_of_part();
        let wanted = Wanted { from: self.at, end, validator: self.validator.for_if_range() };
        let Some(socket) = self.connection.as_mut() else { return Err(FetchError::Connect) };
        let (text, rest) = self.buf.split_at_mut(MAX_TARGET);
        let target = &mut self.target;
        let exchange = async {
            let sent = request::send(socket, target, wanted, text, rest).await;
            sent.ok_or(FetchError::Connect)?;
            read_head(socket, target, text, rest).await
        };
        let limit = self.config.first_byte_timeout;
        let (answer, held) = within(self.clock, limit, exchange).await.map_err(|_| FetchError::Timeout)??;
        if let Some(location) = answer.location {
            // No more than one connection at a time: a chip has no room for two.
            self.connection = None;
            return location.map(|()| false).map_err(FetchError::BadRedirect);
        }
        let place = self.judge(&answer, end)?;
        let framing = match (answer.framing, answer.part) {
            (Framing::Close, Some(part)) => Framing::Length(part.len),
            (framing, _) => framing,
        };
        self.answer = Some(Arriving {
            body: Body::new(held, framing),
            room: answer.part.map_or(u32::MAX, |part| part.len),
            end,
            is_whole: place != BodyStart::AsAsked || answer.kind == Kind::Whole && end < u32::MAX,
            is_kept: answer.is_kept && answer.framing != Framing::Close,
            pace: Pace::new(self.clock, &self.config),
        });
        if place == BodyStart::StartOver { Err(FetchError::StartOver) } else { Ok(true) }
    }

    /// Returns the byte that the next answer is to end in front of. Only over TLS is a connection worth more than a round trip.
    fn end_of_part(&self) -> u32 {
        let is_bounded = self.target.scheme() == Scheme::Https && self.end > self.at;
        if is_bounded { self.end } else { u32::MAX }
    }
}

/// Returns whether a connection that was kept has ended meanwhile, or the link that led to it: then the file is asked for anew.
const fn is_stale(error: &FetchError) -> bool {
    match error {
        FetchError::Connect | FetchError::Timeout => true,
        // "I have waited long enough", and "not on this connection" (RFC 9110, 15.5.9 and 15.5.20).
        FetchError::HttpStatus { status: 408 | 421, .. } => true,
        FetchError::HttpStatus { .. } => !error.is_transient(),
        _ => false,
    }
}
