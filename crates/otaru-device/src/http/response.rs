//! The answer to a request: its headers, then its body in pieces (RFC 9110, RFC 9112).

use core::ops::Range;
use core::time::Duration;

use embedded_io_async::Read;
use httparse::Status;

use super::FetchError;

/// Headers an answer may have.
const HEADERS: usize = 64;

/// What an answer's headers say.
pub(super) struct Answer<'h> {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// The file's length, if this is all of it.
    pub(super) length: Option<u32>,
    /// Where the part begins, and the file's length.
    pub(super) range: Option<(u32, Option<u32>)>,
    /// What `Content-Range: bytes */N` of a 416 tells.
    pub(super) length_of_file: Option<u32>,
    pub(super) retry_after: Option<Duration>,
    /// Where a redirect leads.
    pub(super) location: Option<&'h str>,
    /// Empty when there is none.
    pub(super) validator: &'h str,
    pub(super) compressed: bool,
}

/// How a body's end is told (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// It has so many more bytes.
    Length(u32),
    /// The connection ends with it.
    Close,
    /// In chunks; the size of the next one comes next (section 7.1).
    Size,
    /// Of the present chunk so many more bytes.
    Chunk(u32),
    /// The chunk's end of line comes next.
    Gap,
    /// All chunks have come.
    Done,
}

/// Reads an answer's headers into `buf`; how many bytes these are, and how many are there.
pub(super) async fn read_head<R: Read, E>(
    socket: &mut R,
    buf: &mut [u8],
) -> Result<(usize, usize), FetchError<E>> {
    let mut have = 0;
    loop {
        let room = buf.get_mut(have..).filter(|room| !room.is_empty()).ok_or(FetchError::HeadersTooLong)?;
        match socket.read(room).await {
            Ok(count) if count > 0 => have += count,
            _ => return Err(FetchError::Connect),
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        match httparse::Response::new(&mut headers).parse(&buf[..have]) {
            Ok(Status::Complete(head)) => return Ok((head, have)),
            Ok(Status::Partial) => {}
            Err(_) => return Err(FetchError::BadResponse),
        }
    }
}

impl<'h> Answer<'h> {
    /// Understands headers.
    pub(super) fn parse<E>(head: &'h [u8]) -> Result<Self, FetchError<E>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(head).map_err(|_| FetchError::BadResponse)?;
        let mut answer = Answer {
            status: response.code.ok_or(FetchError::BadResponse)?,
            framing: Framing::Close,
            length: None,
            range: None,
            length_of_file: None,
            retry_after: None,
            location: None,
            validator: "",
            compressed: false,
        };
        let mut etag = None;
        let mut modified = None;
        let redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        for header in &*response.headers {
            let Ok(value) = core::str::from_utf8(header.value) else { continue };
            let value = value.trim_ascii();
            let is = |wanted: &str| header.name.eq_ignore_ascii_case(wanted);
            if is("content-length") {
                answer.length = Some(value.parse().map_err(|_| FetchError::BadResponse)?);
            } else if is("transfer-encoding") {
                // No other was asked for.
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(FetchError::BadResponse);
                }
                answer.framing = Framing::Size;
            } else if is("content-encoding") {
                answer.compressed = !value.eq_ignore_ascii_case("identity");
            } else if is("content-range") && answer.status == 416 {
                answer.length_of_file = value.rsplit('/').next().and_then(|total| total.parse().ok());
            } else if is("content-range") {
                answer.range = Some(content_range(value).ok_or(FetchError::BadResponse)?);
            } else if is("retry-after") {
                answer.retry_after = value.parse().ok().map(Duration::from_secs);
            } else if is("etag") && !value.starts_with("W/") {
                etag = Some(value);
            } else if is("last-modified") {
                modified = Some(value);
            } else if is("location") && redirect {
                answer.location = Some(value);
            }
        }
        if redirect && answer.location.is_none() {
            return Err(FetchError::BadResponse);
        }
        if let Some(length) = answer.length {
            // Both at once is how requests are smuggled.
            if answer.framing != Framing::Close {
                return Err(FetchError::BadResponse);
            }
            answer.framing = Framing::Length(length);
        }
        answer.validator = etag.or(modified).unwrap_or_default();
        Ok(answer)
    }
}

/// Start and total of `bytes START-END/TOTAL`.
fn content_range(value: &str) -> Option<(u32, Option<u32>)> {
    let (span, total) = value.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = span.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

/// A body as it arrives, through the buffer that its headers were in.
pub(super) struct Body<'b, R> {
    socket: R,
    buf: &'b mut [u8],
    /// What of the buffer is still to be given out.
    held: Range<usize>,
    framing: Framing,
}

impl<'b, R: Read> Body<'b, R> {
    pub(super) const fn new(socket: R, buf: &'b mut [u8], held: Range<usize>, framing: Framing) -> Self {
        Self { socket, buf, held, framing }
    }

    /// The next piece, and the same again until it is [consumed](Self::consume); empty at the body's end and where the
    /// connection ends.
    pub(super) async fn piece<E>(&mut self) -> Result<&[u8], FetchError<E>> {
        loop {
            let (done, left) = match self.framing {
                Framing::Length(left) | Framing::Chunk(left) => (left == 0, left as usize),
                Framing::Close => (false, usize::MAX),
                Framing::Done => (true, 0),
                Framing::Size | Framing::Gap => match self.pass_mark() {
                    Some(true) => continue,
                    Some(false) => return Err(FetchError::BadResponse),
                    None => (false, 0),
                },
            };
            if !self.held.is_empty() && left > 0 || done {
                let end = self.held.start.saturating_add(left).min(self.held.end);
                return Ok(&self.buf[self.held.start..end]);
            }
            if self.receive().await? == 0 {
                return Ok(&[]);
            }
        }
    }

    /// Passes over what stands between chunks; `None` when that is not all here, false when it is something else.
    fn pass_mark(&mut self) -> Option<bool> {
        let held = &self.buf[self.held.clone()];
        let used = match self.framing {
            Framing::Gap => {
                let line = held.first_chunk::<2>()?;
                self.framing = Framing::Size;
                if line != b"\r\n" {
                    return Some(false);
                }
                2
            }
            _ => match httparse::parse_chunk_size(held) {
                Ok(Status::Complete((used, size))) => {
                    let Ok(size) = u32::try_from(size) else { return Some(false) };
                    self.framing = if size == 0 { Framing::Done } else { Framing::Chunk(size) };
                    used
                }
                Ok(Status::Partial) => return None,
                Err(_) => return Some(false),
            },
        };
        self.held.start += used;
        Some(true)
    }

    /// Reads more behind what is held; says how much.
    async fn receive<E>(&mut self) -> Result<usize, FetchError<E>> {
        if self.held.start > 0 {
            self.buf.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        let room = self.buf.get_mut(self.held.end..).filter(|room| !room.is_empty());
        let count = self.socket.read(room.ok_or(FetchError::BadResponse)?).await;
        let count = count.map_err(|_| FetchError::Truncated)?;
        self.held.end += count;
        Ok(count)
    }

    /// The first `count` bytes of the last piece are done with.
    pub(super) fn consume(&mut self, count: u32) {
        self.held.start = self.held.end.min(self.held.start + count as usize);
        match &mut self.framing {
            Framing::Length(left) => *left = left.saturating_sub(count),
            Framing::Chunk(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.framing = Framing::Gap;
                }
            }
            _ => {}
        }
    }

    /// Whether all of the body has come, now that there is no further piece.
    pub(super) const fn is_whole(&self) -> bool {
        // Where the connection's end is the body's, only the image itself can tell.
        matches!(self.framing, Framing::Length(0) | Framing::Close | Framing::Done)
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use core::task::Poll;
    use std::vec::Vec;

    use embassy_futures::poll_once;
    use embedded_io_async::ErrorType;

    use super::*;

    /// A connection that brings its bytes in pieces of one length, and then ends.
    struct Pieces<'p>(&'p [u8], usize);

    impl ErrorType for Pieces<'_> {
        type Error = Infallible;
    }

    impl Read for Pieces<'_> {
        async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
            let count = self.1.min(buf.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            buf[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match poll_once(future) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    /// An answer's body, and whether all of it came.
    fn body(answer: &[u8], piece: usize) -> Result<(Vec<u8>, bool), FetchError<()>> {
        let mut socket = Pieces(answer, piece);
        let mut buf = [0; 80];
        let (head, have) = ready(read_head(&mut socket, &mut buf))?;
        let framing = Answer::parse::<()>(&buf[..head])?.framing;
        let mut body = Body::new(socket, &mut buf, head..have, framing);
        let mut all = Vec::new();
        loop {
            let piece = ready(body.piece())?;
            if piece.is_empty() {
                return Ok((all, body.is_whole()));
            }
            // Half of it, so that the rest must be offered again.
            let count = piece.len().div_ceil(2);
            all.extend_from_slice(&piece[..count]);
            body.consume(count as u32);
        }
    }

    #[test]
    fn a_body_is_the_same_in_any_pieces() {
        let text = b"0123456789".to_vec();
        for piece in 1..80 {
            for (answer, whole) in [
                (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789, and more"[..], true),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789", false),
                (b"HTTP/1.0 200 OK\r\n\r\n0123456789", true),
                (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n07;x=y\r\n3456789\r\n0\r\n\r\n", true),
                (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n7\r\n3456789\r\n", false),
                (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\nA\r\n3456789", false),
            ] {
                assert_eq!(body(answer, piece), Ok((text.clone(), whole)), "{piece}: {}", answer.escape_ascii());
            }
        }
    }

    #[test]
    fn what_breaks_http_is_refused() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012__7\r\n3456789\r\n0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 302 Found\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(body(answer, 7), Err(FetchError::BadResponse), "{}", answer.escape_ascii());
        }
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Le", 7), Err(FetchError::Connect));
        let long = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'a'; 80]].concat();
        assert_eq!(body(&long, 7), Err(FetchError::HeadersTooLong));
    }
}
