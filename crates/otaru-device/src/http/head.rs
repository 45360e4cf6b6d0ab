//! The head of an answer, line by line (RFC 9112 sections 4, 5 and 6; RFC 9110).
//!
//! A line that is not needed is passed over, however long it is; of the head as a whole so much is read and no more.

use core::ops::Range;

use embedded_io_async::Read;
use heapless::String;
use otaru_format::url::{UrlError, number};

use super::FetchError;
use super::body::Framing;
use super::date;
use super::url::Target;
use crate::dial::MayBeTls;

/// Bytes of all heads of an answer, interim ones included.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes kept of a line that is too long for the buffer: enough to know which field it is.
const KEPT: usize = 32;

/// Fields that are looked at.
const FIELDS: [&[u8]; 10] = [
    b"content-length",
    b"transfer-encoding",
    b"content-encoding",
    b"content-range",
    b"retry-after",
    b"date",
    b"etag",
    b"last-modified",
    b"location",
    b"connection",
];

/// Classes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another answer follows.
    Interim,
    /// The whole file.
    Whole,
    /// A part of it.
    Part,
    /// A redirect.
    Redirect,
    /// No such part.
    NoRange,
    /// No file.
    Failure,
}

impl Kind {
    /// The class of a status code; an unknown one counts as the first of its hundred (RFC 9110 section 15).
    const fn of(status: u16) -> Option<Self> {
        Some(match status {
            // Nobody asked for another protocol.
            101 => return None,
            100..=199 => Self::Interim,
            206 => Self::Part,
            // Accepted, no content, and what only WebDAV and delta encoding have.
            201 | 202 | 204 | 205 | 207 | 208 | 226 => Self::Failure,
            200..=299 => Self::Whole,
            304..=306 => Self::Failure,
            300..=399 => Self::Redirect,
            416 => Self::NoRange,
            _ => Self::Failure,
        })
    }
}

/// The version of a file, as its server tells it (RFC 9110 section 8.8).
#[derive(Debug, Clone)]
pub(super) struct Validator {
    /// An entity tag, or else a date; empty when there is none.
    text: String<96>,
    is_strong: bool,
}

impl PartialEq for Validator {
    /// Whether one is good for `If-Range` does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Validator {
    pub(super) const NONE: Self = Self { text: String::new(), is_strong: false };

    /// Returns what `If-Range` may have (RFC 9110 section 13.1.5).
    pub(super) fn for_if_range(&self) -> Option<&str> {
        self.is_strong.then_some(self.text.as_str())
    }

    /// Returns whether the server told no version.
    pub(super) fn is_none(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns whether both are dates, or both are entity tags.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        !self.is_none() && !other.is_none() && self.is_tag() == other.is_tag()
    }

    fn is_tag(&self) -> bool {
        self.text.ends_with('"')
    }
}

/// Bytes of a file that an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u32,
    pub(super) len: u32,
    /// The file's length, if known.
    pub(super) total: Option<u32>,
}

/// Head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: Kind,
    pub(super) framing: Framing,
    /// `Content-Length`.
    pub(super) length: Option<u32>,
    pub(super) part: Option<Part>,
    /// The file's length, which a 416 tells.
    pub(super) length_of_file: Option<u32>,
    /// Pause before the next request, in seconds.
    pub(super) retry_after: Option<u32>,
    pub(super) validator: Validator,
    pub(super) is_compressed: bool,
    /// Target of a redirect, which replaces the present one.
    pub(super) location: Option<Result<(), UrlError>>,
    /// The server may answer another request on this connection (RFC 9112 section 9.3).
    pub(super) is_kept: bool,
    is_old: bool,
    has_coding: bool,
    retry_date: Option<u32>,
    date: Option<u32>,
    modified: Option<u32>,
}

/// Reads an answer's head through `buf`; gives back where in it the body's first bytes are. `text` is the target's.
pub(super) async fn read_head<R: Read<Error: MayBeTls>>(
    socket: &mut R,
    target: &mut Target,
    text: &mut [u8],
    buf: &mut [u8],
) -> Result<(Answer, Range<usize>), FetchError> {
    let mut lines = Lines { buf, held: 0..0, scanned: 0, seen: 0, is_cut: false };
    let mut answer: Option<Answer> = None;
    loop {
        while !lines.has_line() {
            lines.make_room();
            if lines.seen > MAX_HEAD {
                return Err(FetchError::HeadersTooLong);
            }
            match socket.read(&mut lines.buf[lines.held.end..]).await {
                Ok(count) if count > 0 => lines.held.end += count,
                Err(error) => return Err(error.tls().map_or(FetchError::Connect, FetchError::Tls)),
                Ok(_) => return Err(FetchError::Connect),
            }
        }
        if lines.seen + lines.scanned - lines.held.start > MAX_HEAD {
            return Err(FetchError::HeadersTooLong);
        }
        let line = trim_end(&lines.buf[lines.held.start..lines.scanned]);
        match answer.as_mut() {
            // An empty line before the first is passed over.
            None if line.is_empty() => {}
            None => answer = Some(Answer::begin(line).ok_or(FetchError::BadResponse)?),
            Some(interim) if interim.kind == Kind::Interim => {
                if line.is_empty() {
                    answer = None;
                }
            }
            Some(head) if line.is_empty() => {
                head.finish().ok_or(FetchError::BadResponse)?;
                let body = lines.scanned + 1..lines.held.end;
                return answer.map(|answer| (answer, body)).ok_or(FetchError::BadResponse);
            }
            Some(head) => match head.add(line, lines.is_cut, target, text) {
                Some(true) => {}
                Some(false) => return Err(FetchError::HeadersTooLong),
                None => return Err(FetchError::BadResponse),
            },
        }
        lines.advance();
    }
}

/// The line without its end, which may be a bare LF (RFC 9112 section 2.2).
fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Lines as they arrive in a buffer.
struct Lines<'b> {
    buf: &'b mut [u8],
    held: Range<usize>,
    /// Offset of the line's LF, once the line is here; before that, the number of bytes searched for it.
    scanned: usize,
    /// Bytes of lines before, and what was cut from this one.
    seen: usize,
    is_cut: bool,
}

impl Lines<'_> {
    /// Looks for the end of the line. One that goes on after its end is joined with spaces (RFC 9112 section 5.2).
    fn has_line(&mut self) -> bool {
        while let Some(byte) = self.buf.get(self.scanned).filter(|_| self.scanned < self.held.end) {
            if *byte == b'\n' {
                if trim_end(&self.buf[self.held.start..self.scanned]).is_empty() {
                    return true;
                }
                match self.buf.get(self.scanned + 1).filter(|_| self.scanned + 1 < self.held.end) {
                    None => return false,
                    Some(b' ' | b'\t') => {
                        for byte in &mut self.buf[self.scanned - 1..=self.scanned] {
                            if matches!(byte, b'\r' | b'\n') {
                                *byte = b' ';
                            }
                        }
                    }
                    Some(_) => return true,
                }
            }
            self.scanned += 1;
        }
        false
    }

    /// Makes room behind what is held, at the cost of the line's rest where it fills the buffer.
    fn make_room(&mut self) {
        let start = self.held.start;
        self.buf.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        self.scanned -= start;
        if self.held.end == self.buf.len() {
            let rest = self.scanned..self.held.end;
            self.buf.copy_within(rest.clone(), KEPT);
            self.seen += self.scanned - KEPT;
            (self.scanned, self.held.end) = (KEPT, KEPT + rest.len());
            self.is_cut = true;
        }
    }

    /// Goes on to the next line.
    fn advance(&mut self) {
        self.scanned += 1;
        self.seen += self.scanned - self.held.start;
        self.held.start = self.scanned;
        self.is_cut = false;
    }
}

impl Answer {
    /// Reads a status line (RFC 9112 section 4).
    fn begin(line: &[u8]) -> Option<Self> {
        let (minor, rest) = line.strip_prefix(b"HTTP/1.")?.split_first()?;
        let (digits, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
        if !minor.is_ascii_digit() || !matches!(reason.first(), None | Some(b' ')) {
            return None;
        }
        let status = number(digits)? as u16;
        Some(Self {
            status,
            kind: Kind::of(status)?,
            framing: Framing::Close,
            length: None,
            part: None,
            length_of_file: None,
            retry_after: None,
            validator: Validator::NONE,
            is_compressed: false,
            location: None,
            is_kept: *minor != b'0',
            is_old: *minor == b'0',
            has_coding: false,
            retry_date: None,
            date: None,
            modified: None,
        })
    }

    /// Reads a field line (RFC 9112 section 5); false when one that is needed is too long, `None` when it breaks HTTP.
    fn add(&mut self, line: &[u8], is_cut: bool, target: &mut Target, text: &mut [u8]) -> Option<bool> {
        let line = if is_cut { line.get(..KEPT)? } else { line };
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return is_cut.then_some(true);
        };
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(is_in_token) {
            return None;
        }
        let Some(field) = FIELDS.iter().position(|field| name.eq_ignore_ascii_case(field)) else {
            return Some(true);
        };
        let is_file = matches!(self.kind, Kind::Whole | Kind::Part);
        if is_cut && field == 9 {
            self.is_kept = false;
            return Some(true);
        }
        if is_cut {
            return Some(field == 8 && self.kind != Kind::Redirect);
        }
        let value = value.get(1..)?.trim_ascii();
        if value.iter().any(|b| matches!(b, 0..=8 | 10..=31 | 0x7F)) {
            return None;
        }
        match field {
            0..3 if is_file => {
                for element in value.split(|b| *b == b',') {
                    self.add_element(field, element.trim_ascii())?;
                }
            }
            3 if self.kind == Kind::Part => {
                // It stands once (RFC 9110 section 14.4): of two, neither can be believed.
                let before = self.part.replace(content_range(value)?);
                if before.is_some() {
                    return None;
                }
            }
            3 if self.kind == Kind::NoRange => {
                self.length_of_file = range_of(value)?.strip_prefix(b"*/").and_then(number);
            }
            4 => {
                self.retry_after = number(value);
                self.retry_date = date::seconds(value);
            }
            5 => self.date = date::seconds(value),
            6 | 7 if is_file => {
                let value = core::str::from_utf8(value).unwrap_or_default();
                let opaque = value.strip_prefix("W/").unwrap_or(value);
                let is_tag = field == 6;
                if is_tag && !(opaque.len() > 1 && opaque.starts_with('"') && opaque.ends_with('"')) {
                    return Some(true);
                }
                if is_tag || !self.validator.is_tag() {
                    // One that does not fit is as good as none.
                    self.validator.text = String::try_from(value).unwrap_or_default();
                    self.validator.is_strong =
                        is_tag && opaque.len() == value.len() && !self.validator.is_none();
                    self.modified = if is_tag { None } else { date::seconds(value.as_bytes()) };
                }
            }
            8 if self.kind == Kind::Redirect => {
                if self.location.is_some() {
                    return None;
                }
                self.location = Some(target.follow(value, text));
            }
            9 => {
                let mut options = value.split(|b| *b == b',');
                self.is_kept &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            _ => {}
        }
        Some(true)
    }

    /// Reads an element of a list: of lengths, transfer codings or content codings.
    fn add_element(&mut self, field: usize, element: &[u8]) -> Option<()> {
        match field {
            0 => {
                let length = number(element)?;
                // The same twice is a server's mistake, two different ones an attack (RFC 9110 section 8.6).
                if self.length.is_some_and(|before| before != length) {
                    return None;
                }
                self.length = Some(length);
            }
            // An empty element is none (RFC 9110 section 5.6.1.2).
            1 if element.is_empty() => {}
            1 => {
                // Chunked comes last and once (RFC 9112 section 6.1).
                if self.framing != Framing::Close {
                    return None;
                }
                self.has_coding = true;
                if element.eq_ignore_ascii_case(b"chunked") {
                    self.framing = Framing::Size;
                } else {
                    self.add_coding(element);
                }
            }
            _ => self.add_coding(element),
        }
        Some(())
    }

    fn add_coding(&mut self, coding: &[u8]) {
        self.is_compressed |= !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity");
    }

    /// Puts together what several fields say; `None` when they do not go together.
    fn finish(&mut self) -> Option<()> {
        if let Some(length) = self.length {
            self.framing = Framing::Length(length);
        }
        // An answer that can be read in two ways (RFC 9112 sections 6.1 and 6.3).
        if self.has_coding && (self.length.is_some() || self.is_old) {
            return None;
        }
        if matches!(self.status, 301 | 302 | 303 | 307 | 308) && self.location.is_none() {
            return None;
        }
        // A date tells versions apart if it was not of the same second (RFC 9110 section 8.8.2.2).
        self.validator.is_strong |= matches!((self.modified, self.date), (Some(a), Some(b)) if a < b);
        let wait = |(until, now): (u32, u32)| until.saturating_sub(now);
        self.retry_after = self.retry_after.or(self.retry_date.zip(self.date).map(wait));
        Some(())
    }
}

/// A character of a field's name (RFC 9110 section 5.6.2).
fn is_in_token(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte)
}

/// Range and size behind the unit of `Content-Range`.
fn range_of(value: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = value.split_at_checked(5)?;
    unit.eq_ignore_ascii_case(b"bytes").then(|| rest.trim_ascii_start())
}

/// Reads `bytes FIRST-LAST/TOTAL` (RFC 9110 section 14.4).
fn content_range(value: &[u8]) -> Option<Part> {
    let range = range_of(value)?;
    let (dash, slash) = (range.iter().position(|b| *b == b'-')?, range.iter().position(|b| *b == b'/')?);
    let first = number(range.get(..dash)?)?;
    let last = number(range.get(dash + 1..slash)?)?;
    let total = match range.get(slash + 1..)? {
        b"*" => None,
        total => Some(number(total)?),
    };
    if total.is_some_and(|total| last >= total) {
        return None;
    }
    Some(Part { first, len: last.checked_sub(first)?.checked_add(1)?, total })
}
