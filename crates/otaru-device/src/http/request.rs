//! The request for a file, or for the rest of it (RFC 9110 section 14, RFC 9112 section 3).

use core::fmt::{self, Write as _};

use super::Url;

/// Writes the request for the bytes from `offset` on into `buf`, to be sent at once; its length, or `None` if it does
/// not fit. An empty `validator` is none.
pub(super) fn compose(url: &Url<'_>, offset: u32, validator: &str, buf: &mut [u8]) -> Option<usize> {
    let mut text = Text { buf, len: 0 };
    let root = if url.path().starts_with('/') { "" } else { "/" };
    write!(text, "GET {root}{} HTTP/1.1\r\nHost: {}\r\n", url.path(), url.authority()).ok()?;
    text.write_str(concat!("User-Agent: otaru/", env!("CARGO_PKG_VERSION"), "\r\n")).ok()?;
    text.write_str("Accept-Encoding: identity\r\nConnection: keep-alive\r\n").ok()?;
    if offset > 0 {
        write!(text, "Range: bytes={offset}-\r\n").ok()?;
        if !validator.is_empty() {
            write!(text, "If-Range: {validator}\r\n").ok()?;
        }
    }
    text.write_str("\r\n").ok()?;
    Some(text.len)
}

/// Text in borrowed memory.
struct Text<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len.checked_add(text.len()).ok_or(fmt::Error)?;
        self.buf.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
