//! `http://` and `https://` URLs: scheme and authority (RFC 3986 section 3), and the list of hosts that a device may fetch from.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::MAX_HOST;

/// Ends a sentence about an entry in a list of hosts that allows nothing.
pub const NO_ALLOWED_HOST: &str =
    "is no host with or without a port, such as files.example.org, *.example.org or 192.0.2.1:8080";

/// Reason a URL cannot be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum UrlError {
    /// No host, a bad port or address, or characters that do not belong there.
    Malformed,
    /// Neither `http://` nor `https://`.
    Scheme,
    /// `https://`, and the device has no TLS, or trusts nobody.
    Https,
    /// A user name or password before the host.
    Login,
    /// A host name in letters beyond ASCII.
    International,
    /// More bytes than there is room for.
    TooLong,
}

impl UrlError {
    /// The reason as the rest of a sentence about a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "that cannot be used: a bad host, port or character",
            Self::Scheme => "that is not http:// or https://",
            Self::Https => "with https://, and this firmware has no TLS, or no CA to trust",
            Self::Login => "with a login in it, and logins in URLs are not sent",
            Self::International => "with a host name to be written as punycode (xn--…)",
            Self::TooLong => "that is too long",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for UrlError {}

/// Splits the scheme off, if there is one (RFC 3986 section 3.1); the rest begins behind the colon.
pub fn split_scheme(reference: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon =
        reference.iter().position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'-' | b'.'))?;
    let (scheme, rest) = reference.split_at(colon);
    match (scheme.first(), rest.split_first()) {
        (Some(first), Some((b':', rest))) if first.is_ascii_alphabetic() => Some((scheme, rest)),
        _ => None,
    }
}

/// Scheme of a URL that firmware may be fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Scheme {
    /// In clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// Reads a scheme, in any case.
    ///
    /// # Errors
    /// [`UrlError::Scheme`] for any other.
    pub const fn parse(scheme: &[u8]) -> Result<Self, UrlError> {
        if scheme.eq_ignore_ascii_case(b"http") {
            Ok(Self::Http)
        } else if scheme.eq_ignore_ascii_case(b"https") {
            Ok(Self::Https)
        } else {
            Err(UrlError::Scheme)
        }
    }

    /// The TCP port where none is written (RFC 9110 section 4.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Splits an authority from the path, query or fragment behind it.
pub fn split_authority(rest: &[u8]) -> (&[u8], &[u8]) {
    rest.split_at(rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len()))
}

/// Host and port of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host, an IPv6 address in its brackets.
    pub host: &'a str,
    /// The TCP port, if one is written.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:` or `host:port` (RFC 3986 section 3.2). A host whose last label is a number must be an IPv4
    /// address of four decimal numbers, for a resolver may take `127.1` or `0x7f000001` for one as well.
    ///
    /// # Errors
    /// [`UrlError`] for a login, an international name, and what is no host and port.
    pub fn parse(text: &'a [u8]) -> Result<Self, UrlError> {
        if text.contains(&b'@') {
            return Err(UrlError::Login);
        }
        let text = core::str::from_utf8(text).map_err(|_| UrlError::Malformed)?;
        if !text.is_ascii() {
            return Err(UrlError::International);
        }
        let end = match text.starts_with('[') {
            true => text.find(']').map_or(0, |at| at + 1),
            false => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(end);
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) => match number(digits.as_bytes()) {
                Some(port @ 1..=0xFFFF) => Some(port as u16),
                _ => return Err(UrlError::Malformed),
            },
            None => return Err(UrlError::Malformed),
        };
        if is_host(host) { Ok(Self { host, port }) } else { Err(UrlError::Malformed) }
    }

    /// The address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => self.host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        }
    }
}

/// Reads decimal digits and nothing else; a number with more than 32 bits is the largest of 32.
pub fn number(digits: &[u8]) -> Option<u32> {
    let digit = |number: u32, digit: &u8| {
        digit.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
}

fn is_host(host: &str) -> bool {
    let authority = Authority { host, port: None };
    if host.starts_with('[') {
        return authority.address().is_some();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_number =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match is_number {
        true => authority.address().is_some(),
        false => host.len() <= MAX_HOST && host.bytes().all(in_name) && !name.starts_with('.'),
    }
}

/// A host that firmware may be fetched from, as a setting has it: `files.example.org`, `*.example.org` for every name
/// below that one, `192.0.2.1` or `[2001:db8::1]`; each with a port, such as `:8080`, if only that one is meant.
///
/// A name on the list is allowed wherever it resolves to. A name is not allowed by its address, nor an address by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AllowedHost<'a>(&'a str);

impl<'a> AllowedHost<'a> {
    /// Takes an entry as it is. One that is not [valid](Self::is_valid) allows nothing.
    pub const fn new(entry: &'a str) -> Self {
        Self(entry)
    }

    /// Returns whether the entry can allow anything.
    pub fn is_valid(&self) -> bool {
        self.parse().is_some()
    }

    /// Returns the entry as it was given.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// Returns whether this entry allows a host at this port. Letter case and a dot behind a name do not matter, and
    /// addresses are compared as addresses.
    pub fn allows(&self, host: &Authority<'_>, port: u16) -> bool {
        let Some((is_suffix, entry)) = self.parse() else { return false };
        if entry.port.is_some_and(|only| only != port) {
            return false;
        }
        match (entry.address(), host.address()) {
            (Some(entry), Some(host)) => entry.to_canonical() == host.to_canonical(),
            (None, None) => {
                let (entry, host) = (bare(entry.host), bare(host.host));
                match host.len().checked_sub(entry.len()) {
                    Some(0) => !is_suffix && host.eq_ignore_ascii_case(entry),
                    Some(more) if is_suffix => {
                        let (below, above) = host.as_bytes().split_at(more);
                        below.len() > 1
                            && below.ends_with(b".")
                            && above.eq_ignore_ascii_case(entry.as_bytes())
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// Whether names below are meant, and the entry without the `*.`.
    fn parse(&self) -> Option<(bool, Authority<'a>)> {
        let below = self.0.strip_prefix("*.");
        let entry = Authority::parse(below.unwrap_or(self.0).as_bytes()).ok()?;
        let is_suffix = below.is_some();
        (!is_suffix || entry.address().is_none()).then_some((is_suffix, entry))
    }
}

/// A name without the dot that may stand behind it.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(&str, Option<u16>), UrlError> {
        Authority::parse(text.as_bytes()).map(|authority| (authority.host, authority.port))
    }

    #[test]
    fn hosts_and_ports_are_read() {
        assert_eq!(parse("files"), Ok(("files", None)));
        assert_eq!(parse("Files.Example.org.:8080"), Ok(("Files.Example.org.", Some(8080))));
        assert_eq!(parse("files:"), Ok(("files", None)));
        assert_eq!(parse("files:00080"), Ok(("files", Some(80))));
        assert_eq!(parse("[2001:db8::1]:81"), Ok(("[2001:db8::1]", Some(81))));
        assert_eq!(parse("192.0.2.1"), Ok(("192.0.2.1", None)));
        assert_eq!(parse("xn--mnchen-3ya.example"), Ok(("xn--mnchen-3ya.example", None)));
        assert_eq!(parse("my_nas"), Ok(("my_nas", None)));
    }

    #[test]
    fn other_hosts_and_ports_are_refused() {
        for text in [
            "",
            ":80",
            "h:0",
            "h:65536",
            "h:+80",
            "h:8o",
            "h:80:80",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[v1.x]",
            "[]",
            "::1",
            "2130706433",
            "127.1",
            "0x7f000001",
            "0x7f.0.0.0x1",
            "0177.0.0.1",
            "127.0.0.1.",
            "1.2.3.256",
            "a%20b",
            "a b",
            "a\\b",
            ".",
            ".example",
            "h\u{7f}",
        ] {
            assert_eq!(parse(text), Err(UrlError::Malformed), "{text}");
        }
        assert_eq!(parse("user:secret@h"), Err(UrlError::Login));
        assert_eq!(parse("@h"), Err(UrlError::Login));
        assert_eq!(parse("münchen.example"), Err(UrlError::International));
    }

    #[test]
    fn schemes_are_split_from_the_start_only() {
        let split = |text: &'static str| split_scheme(text.as_bytes());
        assert_eq!(split("HTTP://h/x"), Some((&b"HTTP"[..], &b"//h/x"[..])));
        assert_eq!(split("mailto:x"), Some((&b"mailto"[..], &b"x"[..])));
        for text in ["/x?from=http://h", "x/y:z", "?http://h", "", "1a:b", "//h:80/", "ä:b", ":x"] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    fn allows(entry: &str, host: &str) -> bool {
        let host = Authority::parse(host.as_bytes()).unwrap();
        AllowedHost::new(entry).allows(&host, host.port.unwrap_or(80))
    }

    #[test]
    fn hosts_on_the_list_are_allowed_in_every_form() {
        for (entry, host) in [
            ("files.example", "files.example"),
            ("Files.Example", "fILES.eXAMPLE:8080"),
            ("files.example", "files.example."),
            ("files.example.", "files.example"),
            ("files.example:80", "files.example"),
            ("files.example:8080", "files.example:8080"),
            ("*.example.org", "a.example.org"),
            ("*.example.org", "a.b.EXAMPLE.org."),
            ("*.example.org:81", "a.example.org:81"),
            ("192.0.2.1", "192.0.2.1:99"),
            ("[2001:db8::1]", "[2001:0DB8:0:0::0001]"),
            ("192.0.2.1", "[::ffff:192.0.2.1]"),
            ("[::ffff:c000:201]", "192.0.2.1"),
        ] {
            assert!(allows(entry, host), "{entry} {host}");
        }
    }

    #[test]
    fn hosts_off_the_list_are_not() {
        for (entry, host) in [
            ("files.example", "files.example.org"),
            ("files.example", "xfiles.example"),
            ("files.example", "a.files.example"),
            ("files.example:8080", "files.example"),
            ("files.example:80", "files.example:8080"),
            ("*.example.org", "example.org"),
            ("*.example.org", "badexample.org"),
            ("*.example.org", "example.org.evil"),
            ("*.example.org:81", "a.example.org"),
            ("192.0.2.1", "192.0.2.10"),
            ("192.0.2.1", "files.example"),
            ("*.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "[2001:db8::2]"),
            ("", "files.example"),
            ("http://files.example", "files.example"),
            ("user@files.example", "files.example"),
            ("*", "files.example"),
        ] {
            assert!(!allows(entry, host), "{entry} {host}");
        }
        for entry in ["", "*", "*.", "http://h", "u@h", "h/x", "2130706433", "*.192.0.2.1", "h:0", "fe80::1"]
        {
            assert!(!AllowedHost::new(entry).is_valid(), "{entry}");
        }
    }
}
