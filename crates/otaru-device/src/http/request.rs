//! The request for a file, or for the rest of it (RFC 9110 section 14, RFC 9112 section 3).

use core::fmt::{self, Write as _};

use embedded_io_async::Write;
use otaru_format::url::Scheme;

use super::url::Target;

/// Bytes of a request but for its path: the longest host, the longest validator, and the fields round them.
const FIELDS: usize = 600;

/// Bytes of a file that are asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'v> {
    /// The first of them.
    pub(super) from: u32,
    /// The byte behind the last of them, [`u32::MAX`] for all there are.
    pub(super) end: u32,
    /// Version of the file that the first answer had.
    pub(super) validator: Option<&'v str>,
}

/// Sends the request for these bytes, at once unless the path is long; `None` if that fails. Over TLS the connection is to be kept.
/// `text` is the target's, `buf` takes the request.
pub(super) async fn send<W: Write>(
    socket: &mut W,
    target: &Target,
    wanted: Wanted<'_>,
    text: &[u8],
    buf: &mut [u8],
) -> Option<()> {
    let mut request = Text { buf, len: 0 };
    request.add(b"GET ")?;
    request.add(target.path(text))?;
    if request.buf.len() - request.len < FIELDS {
        socket.write_all(&request.buf[..request.len]).await.ok()?;
        request.len = 0;
    }
    request.add(b" HTTP/1.1\r\nHost: ")?;
    request.add(target.authority(text))?;
    request.add(
        concat!("\r\nUser-Agent: otaru/", env!("CARGO_PKG_VERSION"), "\r\nAccept-Encoding: identity\r\n")
            .as_bytes(),
    )?;
    if target.scheme() == Scheme::Http {
        request.add(b"Connection: close\r\n")?;
    }
    let Wanted { from, end, validator } = wanted;
    if from > 0 || end < u32::MAX {
        write!(request, "Range: bytes={from}-").ok()?;
        if end < u32::MAX {
            write!(request, "{}", end.saturating_sub(1)).ok()?;
        }
        request.add(b"\r\n")?;
    }
    if let Some(validator) = validator.filter(|_| from > 0) {
        write!(request, "If-Range: {validator}\r\n").ok()?;
    }
    request.add(b"\r\n")?;
    socket.write_all(&request.buf[..request.len]).await.ok()?;
    socket.flush().await.ok()
}

/// Text in borrowed memory.
struct Text<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl Text<'_> {
    fn add(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.buf.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes()).ok_or(fmt::Error)
    }
}
