//! Answers of the server.

use super::*;

pub(crate) fn raw(text: &str) -> Vec<Act> {
    vec![Act::Send(text.as_bytes().to_vec()), Act::Close]
}

/// This head, in which `LEN` is the file's length, and then the whole file.
pub(crate) fn whole(head: &str, new: &[u8]) -> Vec<Act> {
    let head = head.replace("LEN", &new.len().to_string());
    vec![Act::Send(head.into_bytes()), Act::Send(new.to_vec()), Act::Close]
}

/// The first half of the file, with these fields, and then the end.
pub(crate) fn cut(fields: &str, new: &[u8]) -> Vec<Act> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", new.len());
    vec![Act::Send(head.into_bytes()), Act::Send(new[..new.len() / 2].to_vec()), Act::Close]
}

/// The rest, as it was asked for, up to `end`, with these fields.
pub(crate) fn part(request: &Request, new: &[u8], end: usize, fields: &str) -> Vec<Act> {
    let from = request.from().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n{fields}\r\n",
        end - 1,
        new.len()
    );
    vec![Act::Send(head.into_bytes()), Act::Send(new[from..end].to_vec()), Act::Close]
}

/// A body in chunks that end so.
pub(crate) fn chunks(head: &str, new: &[u8], end: &str) -> Vec<Act> {
    let mut body = head.as_bytes().to_vec();
    for piece in new.chunks(3000) {
        body.extend(format!("{:x};name=\"value\"\r\n", piece.len()).bytes());
        body.extend(piece);
        body.extend(b"\r\n");
    }
    body.extend(end.bytes());
    vec![Act::Send(body), Act::Close]
}
