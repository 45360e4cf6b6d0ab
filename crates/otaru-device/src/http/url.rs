//! `http://` URLs: host, port and path, and where a redirect leads.

use core::fmt;

use heapless::String;
use otaru_format::command::MAX_URL;

/// An `http://` URL, split. User and password in it are ignored and never shown, as is the query.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    authority: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// Not `http://`.
    Scheme,
    /// No host, a bad port, or characters that do not belong there.
    Malformed,
}

impl<'a> Url<'a> {
    /// Splits a URL.
    ///
    /// # Errors
    /// [`UrlError`] when it is not `http://` or malformed.
    pub fn parse(text: &'a str) -> Result<Self, UrlError> {
        if text.bytes().any(|b| b <= b' ' || b == 0x7F) {
            return Err(UrlError::Malformed);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlError::Scheme);
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']').ok_or(UrlError::Malformed)?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| UrlError::Malformed)?,
            None => 80,
        };
        if host.is_empty() || port == 0 {
            return Err(UrlError::Malformed);
        }
        Ok(Self { authority, host, port, path })
    }

    /// The host, without brackets.
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// The TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as the `Host` header has them.
    pub const fn authority(&self) -> &'a str {
        self.authority
    }

    /// Path and query; empty for the root.
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// The URL a `Location` header leads to from here (RFC 3986 section 5.2, without dot segments).
    ///
    /// # Errors
    /// When the result is not a usable URL or too long.
    pub fn join(&self, location: &str) -> Result<String<MAX_URL>, UrlError> {
        let mut next = String::new();
        let mut add = |parts: &[&str]| {
            parts.iter().try_for_each(|part| next.push_str(part)).map_err(|_| UrlError::Malformed)
        };
        let bare = self.path.split('?').next().unwrap_or("");
        if location.contains("://") {
            add(&[location])?;
        } else if let Some(rest) = location.strip_prefix("//") {
            add(&["http://", rest])?;
        } else if location.starts_with('/') {
            add(&["http://", self.authority, location])?;
        } else if location.starts_with('?') {
            add(&["http://", self.authority, bare, location])?;
        } else {
            let folder = bare.rfind('/').map_or("/", |at| &bare[..=at]);
            add(&["http://", self.authority, folder, location])?;
        }
        Url::parse(&next)?;
        Ok(next)
    }
}

impl fmt::Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path.split('?').next().unwrap_or(""))
    }
}

impl fmt::Debug for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}
