//! The URL that is fetched, in the form it is sent in, and where a redirect leads from there.

use otaru_format::url::{Authority, Scheme, UrlError, split_authority, split_scheme};

/// Bytes of the longest URL that is fetched, encoded and without its `http://`. Signed links have 500 to 2,000.
pub(crate) const MAX_TARGET: usize = 2048;

/// Scheme of a URL, and lengths of its parts in a buffer: host and port as the `Host` field has them, path, and query with its `?`.
///
/// The text itself is in the first [`MAX_TARGET`] bytes of the download's buffer, which the body overwrites.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Target {
    authority: usize,
    path: usize,
    all: usize,
    scheme: Scheme,
}

impl Target {
    /// None yet.
    pub(super) const EMPTY: Self = Self { authority: 0, path: 0, all: 0, scheme: Scheme::Http };

    /// Host and port as the `Host` field has them.
    pub(super) fn authority<'b>(&self, text: &'b [u8]) -> &'b [u8] {
        text.get(..self.authority).unwrap_or_default()
    }

    /// Scheme, which decides whether TLS is spoken.
    pub(super) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Path and query as the request line has them (RFC 9112 section 3.2.1).
    pub(super) fn path<'b>(&self, text: &'b [u8]) -> &'b [u8] {
        text.get(self.authority..self.all).unwrap_or_default()
    }

    /// Follows a reference from this URL (RFC 3986 section 5.2.2), to an absolute URL from an empty one. Percent-encodes
    /// what may not be in a URL as it is (section 2), removes dot segments, and drops a fragment.
    ///
    /// # Errors
    /// Returns an error if the reference does not lead to a URL that can be fetched; the contents of `text` are then unspecified.
    pub(super) fn follow(&mut self, reference: &[u8], text: &mut [u8]) -> Result<(), UrlError> {
        let (absolute, rest) = match split_scheme(reference) {
            Some((scheme, rest)) => {
                self.scheme = Scheme::parse(scheme)?;
                if !rest.starts_with(b"//") {
                    return Err(UrlError::Malformed);
                }
                (true, rest)
            }
            None => (self.all == 0, reference),
        };
        let reference = match rest.strip_prefix(b"//") {
            Some(rest) => {
                let (authority, rest) = split_authority(rest);
                self.set_authority(&Authority::parse(authority)?, text)?;
                rest
            }
            None if absolute => return Err(UrlError::Malformed),
            None => rest,
        };
        let reference = reference.split(|b| *b == b'#').next().unwrap_or(reference);
        let query = reference.iter().position(|b| *b == b'?');
        let (path, query) = reference.split_at(query.unwrap_or(reference.len()));
        let mut end = match (path.first(), query.is_empty()) {
            (Some(b'/'), _) => self.authority,
            // A reference to the folder that the last segment is in.
            (Some(_), _) => {
                let base = text.get(self.authority..self.path).unwrap_or_default();
                self.authority + base.iter().rposition(|b| *b == b'/').unwrap_or(0)
            }
            (None, false) => self.path,
            (None, true) => self.all.max(self.path),
        };
        if !path.is_empty() {
            if path.first() != Some(&b'/') {
                push(text, &mut end, b'/')?;
            }
            end = encode(text, end, path)?;
            end = remove_dot_segments(text, self.authority, end);
            self.path = end;
        }
        self.all = encode(text, end, query)?;
        Ok(())
    }

    /// Puts host and port, in their usual form, and the root's path.
    fn set_authority(&mut self, authority: &Authority<'_>, text: &mut [u8]) -> Result<(), UrlError> {
        let mut end = 0;
        for byte in authority.host.bytes() {
            push(text, &mut end, byte.to_ascii_lowercase())?;
        }
        if let Some(port) = authority.port.filter(|port| *port != self.scheme.default_port()) {
            push(text, &mut end, b':')?;
            let mut unit = 10_000;
            while unit > 0 {
                if port >= unit {
                    push(text, &mut end, b'0' + (port / unit % 10) as u8)?;
                }
                unit /= 10;
            }
        }
        self.authority = end;
        push(text, &mut end, b'/')?;
        (self.path, self.all) = (end, end);
        Ok(())
    }
}

fn push(text: &mut [u8], end: &mut usize, byte: u8) -> Result<(), UrlError> {
    *text.get_mut(*end).ok_or(UrlError::TooLong)? = byte;
    *end += 1;
    Ok(())
}

/// Adds a piece of a path or query; gives back the new end.
fn encode(text: &mut [u8], mut end: usize, piece: &[u8]) -> Result<usize, UrlError> {
    for (at, byte) in piece.iter().enumerate() {
        let is_encoded =
            || piece.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let plain = match byte {
            0..b' ' | 0x7F => return Err(UrlError::Malformed),
            b'%' => is_encoded(),
            b' ' | b'"' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                false
            }
            _ => true,
        };
        if plain {
            push(text, &mut end, *byte)?;
        } else {
            push(text, &mut end, b'%')?;
            for digit in [byte >> 4, byte & 15] {
                push(text, &mut end, if digit < 10 { b'0' + digit } else { b'A' - 10 + digit })?;
            }
        }
    }
    Ok(end)
}

/// Removes `.` and `..` from the path `text[start..end]` (RFC 3986 section 5.2.4); gives back its new end.
fn remove_dot_segments(text: &mut [u8], start: usize, end: usize) -> usize {
    let (mut from, mut to) = (start, start);
    while from < end {
        let Some(path) = text.get(from..end) else { break };
        let next = path.iter().skip(1).position(|b| *b == b'/').map_or(end, |at| from + 1 + at);
        let segment = text.get(from + 1..next).unwrap_or_default();
        let is_up = segment == b"..";
        if is_up || segment == b"." {
            if is_up {
                let before = text.get(start..to).unwrap_or_default();
                to = start + before.iter().rposition(|b| *b == b'/').unwrap_or(0);
            }
            if next == end {
                if let Some(last) = text.get_mut(to) {
                    *last = b'/';
                }
                to += 1;
            }
        } else {
            text.copy_within(from..next, to);
            to += next - from;
        }
        from = next;
    }
    to
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;

    /// The URL that references lead to, one after the other.
    fn follow(references: &[&[u8]]) -> Result<String, UrlError> {
        let (mut target, mut text) = (Target::default(), [0; MAX_TARGET]);
        for reference in references {
            target.follow(reference, &mut text)?;
        }
        let all = [target.authority(&text), target.path(&text)].concat();
        Ok(String::from_utf8(all).unwrap())
    }

    /// RFC 3986 section 5.4, with the query and scheme that can be fetched here.
    #[test]
    fn references_are_resolved_as_in_the_rfc() {
        for (reference, target) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x", "/b/c/g;x"),
            ("g;x?y#s", "/b/c/g;x?y"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/./x", "/b/c/g?y/./x"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("g#s/../x", "/b/c/g"),
            ("?", "/b/c/d;p?"),
            ("//g", "g/"),
            ("//g?x", "g/?x"),
            ("http://g/../x", "g/x"),
            ("HTTP://G:80?x=1#f", "g/?x=1"),
            ("HTTPS://G:443?x=1#f", "g/?x=1"),
            ("https://g:80/x", "g:80/x"),
            ("http://g:443/x", "g:443/x"),
            ("http://g:/x", "g/x"),
            ("http://g:08080/x", "g:8080/x"),
            ("//[2001:DB8::1]:81/x", "[2001:db8::1]:81/x"),
            ("/f.bin?from=http://example.org/", "/f.bin?from=http://example.org/"),
            ("f.bin?from=http://u:p@example.org/", "/b/c/f.bin?from=http://u:p@example.org/"),
            ("a/b:c", "/b/c/a/b:c"),
            ("/a//b/../c", "/a//c"),
            ("/..//x", "//x"),
        ] {
            let wanted = if target.starts_with('/') { format!("a{target}") } else { target.into() };
            let got = follow(&[b"http://a/b/c/d;p?q", reference.as_bytes()]);
            assert_eq!(got, Ok(wanted), "{reference}");
        }
        assert_eq!(follow(&[b"http://a:81", b"x", b"?y", b"../z/"]), Ok("a:81/z/".into()));
        assert_eq!(follow(&[b"http://a?q", b""]), Ok("a/?q".into()));
    }

    #[test]
    fn other_characters_are_encoded() {
        for (path, sent) in [
            ("ü/é.bin", "/%C3%BC/%C3%A9.bin"),
            ("a b", "/a%20b"),
            ("%C3%bc%20", "/%C3%bc%20"),
            ("100%", "/100%25"),
            ("%zz%4", "/%25zz%254"),
            ("a|b\\c^d`e{f}g<h>i\"j[k]", "/a%7Cb%5Cc%5Ed%60e%7Bf%7Dg%3Ch%3Ei%22j%5Bk%5D"),
            ("-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
            ("x?ü=/?|", "/x?%C3%BC=/?%7C"),
        ] {
            assert_eq!(follow(&[format!("http://h/{path}").as_bytes()]), Ok(format!("h{sent}")), "{path}");
        }
        assert_eq!(follow(&[b"http://h/", b"caf\xE9"]), Ok("h/caf%E9".into()));
    }

    #[test]
    fn what_cannot_be_fetched_is_told() {
        for (reference, error) in [
            ("HTTPS:x", UrlError::Malformed),
            ("ftp://g/x", UrlError::Scheme),
            ("mailto:x", UrlError::Scheme),
            ("g:8080/x", UrlError::Scheme),
            ("http:g", UrlError::Malformed),
            ("http:///x", UrlError::Malformed),
            ("http:", UrlError::Malformed),
            ("//", UrlError::Malformed),
            ("//g:x/", UrlError::Malformed),
            ("a\tb", UrlError::Malformed),
            ("//user:secret@g/", UrlError::Login),
            ("//münchen/", UrlError::International),
        ] {
            assert_eq!(follow(&[b"http://a/b", reference.as_bytes()]), Err(error), "{reference}");
        }
        for first in ["", "x", "/x", "//", "?x"] {
            assert_eq!(follow(&[first.as_bytes()]), Err(UrlError::Malformed), "{first}");
        }
        let path = |len: usize| format!("http://h/{}", "x".repeat(len));
        assert!(follow(&[path(MAX_TARGET - 2).as_bytes()]).is_ok());
        assert_eq!(follow(&[path(MAX_TARGET - 1).as_bytes()]), Err(UrlError::TooLong));
    }
}
