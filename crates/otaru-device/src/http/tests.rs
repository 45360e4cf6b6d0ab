//! Heads and bodies as they arrive, in pieces of any length.

use core::convert::Infallible;
use core::task::Poll;
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

use embassy_futures::poll_once;
use embedded_io_async::{ErrorType, Read};

use super::FetchError;
use super::body::Body;
use super::head::{Answer, read_head};
use super::url::{MAX_TARGET, Target};

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

/// An answer's head, and where it leads from `http://h/a/b`.
fn head(answer: &[u8], piece: usize) -> Result<(Answer, String), FetchError> {
    let (mut text, mut buf, mut target) = ([0; MAX_TARGET], [0; 80], Target::default());
    target.follow(b"http://h/a/b", &mut text).map_err(FetchError::BadUrl)?;
    let (answer, _) = ready(read_head(&mut Pieces(answer, piece), &mut target, &mut text, &mut buf))?;
    let url = [target.authority(&text), target.path(&text)].concat();
    Ok((answer, String::from_utf8(url).unwrap()))
}

/// An answer's body, and whether all of it came.
fn body(answer: &[u8], piece: usize) -> Result<(Vec<u8>, bool), FetchError> {
    let (mut text, mut buf, mut target) = ([0; MAX_TARGET], [0; 80], Target::default());
    target.follow(b"http://h/a/b", &mut text).map_err(FetchError::BadUrl)?;
    let mut socket = Pieces(answer, piece);
    let (answer, held) = ready(read_head(&mut socket, &mut target, &mut text, &mut buf))?;
    let mut body = Body::new(held, answer.framing);
    let mut all = Vec::new();
    loop {
        let len = ready(body.fill(&mut socket, &mut buf))?;
        if len == 0 {
            return Ok((all, body.is_whole()));
        }
        // Half of it, so that the rest must be offered again.
        let count = len.div_ceil(2);
        all.extend_from_slice(&body.piece(&buf)[..count]);
        body.consume(count as u32);
    }
}

#[test]
fn a_body_is_the_same_in_any_pieces() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_extension = format!("{CHUNKED}A;x=\"{}\"\r\n0123456789\r\n0\r\n\r\n", "y".repeat(60));
    for piece in 1..90 {
        for (answer, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789, and more".into(), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789".into(), false),
            ("HTTP/1.0 200 OK\r\n\r\n0123456789".into(), true),
            ("\r\n\nHTTP/1.1 200\nContent-Length: 10, 10\n\n0123456789".into(), true),
            ("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n0123456789".into(), true),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n 10\r\n\r\n0123456789".into(), true),
            ("HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 10\r\n\r\n0123456789".into(), true),
            (format!("{CHUNKED}3\r\n012\r\n07;x=y\r\n3456789\r\n0\r\n\r\n"), true),
            (format!("{CHUNKED}3 \r\n012\r\n7 ;x\r\n3456789\r\n000;x\r\nTrailer: x\r\n\r\n"), true),
            (format!("{CHUNKED}3\n012\n7\n3456789\n0\n\n"), true),
            (long_extension.clone(), true),
            (format!("{CHUNKED}3\r\n012\r\n7\r\n3456789\r\n"), false),
            (format!("{CHUNKED}3\r\n012\r\nA\r\n3456789"), false),
        ] {
            let got = body(answer.as_bytes(), piece);
            assert_eq!(got, Ok((b"0123456789".to_vec(), whole)), "{piece}: {answer:?}");
        }
    }
}

#[test]
fn what_breaks_http_is_refused() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    for answer in [
        format!("{CHUNKED}3\r\n012__7\r\n3456789\r\n0\r\n\r\n"),
        format!("{CHUNKED}3\r\n012\r__7\r\n3456789\r\n0\r\n\r\n"),
        format!("{CHUNKED}x\r\n"),
        format!("{CHUNKED}\r\n"),
        format!("{CHUNKED}-1\r\n"),
        format!("{CHUNKED}0x3\r\n"),
        format!("{CHUNKED}3 3\r\n"),
        format!("{CHUNKED}FFFFFFFFF\r\n"),
        format!("{CHUNKED}1;{}\r\n", "x".repeat(100)),
        ok("Transfer-Encoding: chunked\r\nContent-Length: 1"),
        ok("Transfer-Encoding: identity\r\nContent-Length: 1"),
        ok("Transfer-Encoding: chunked, chunked"),
        ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ok("Transfer-Encoding: chunked, identity"),
        ok("Content-Length: -1"),
        ok("Content-Length: +1"),
        ok("Content-Length: 1 1"),
        ok("Content-Length:"),
        ok("Content-Length: 1,"),
        ok("Content-Length: 10, 11"),
        ok("Content-Length: 10\r\ncontent-length: 11"),
        ok("Content-Length: 1\u{1}"),
        ok("Content-Length : 1"),
        ok(": 1"),
        ok("no colon"),
        ok("a b: 1"),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\nLocation: a\r\nLocation: b\r\n\r\n".into(),
        "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n".into(),
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 5-4/10\r\n\r\n".into(),
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 5-10/10\r\n\r\n".into(),
        "HTTP/1.1 206 Part\r\nContent-Range: bytes */10\r\n\r\n".into(),
        "HTTP/1.1 206 Part\r\nContent-Range: lines 1-2/10\r\n\r\n".into(),
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-4294967295/*\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "HTTP/2 200\r\n\r\n".into(),
        "HTTP/1.1 20\r\n\r\n".into(),
        "HTTP/1.1 2000 OK\r\n\r\n".into(),
        "HTTP/1.1200 OK\r\n\r\n".into(),
        "HTTP/1.1  200 OK\r\n\r\n".into(),
        "ICY 200 OK\r\n\r\n".into(),
    ] {
        for piece in [1, 7, 1000] {
            assert_eq!(body(answer.as_bytes(), piece), Err(FetchError::BadResponse), "{answer:?}");
        }
    }
    assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Le", 7), Err(FetchError::Connect));
}

#[test]
fn lines_that_are_not_needed_have_any_length() {
    let with = |name: &str, len: usize| {
        let long = "a".repeat(len);
        format!("HTTP/1.1 200 OK\r\nETag: \"e\"\r\n{name}: {long}\r\nContent-Length: 2\r\n\r\nok")
    };
    for piece in [1, 3, 79, 80, 81, 20_000] {
        for len in (0..170).chain([500, 6000, 16_000]) {
            for name in ["Set-Cookie", "a-name-of-more-than-thirty-two-letters-and-more"] {
                let answer = with(name, len);
                assert_eq!(body(answer.as_bytes(), piece), Ok((b"ok".to_vec(), true)), "{piece} {len}");
            }
        }
        for (name, len) in [("Set-Cookie", 16_400), ("ETag", 100), ("Content-Encoding", 100)] {
            let answer = with(name, len);
            assert_eq!(body(answer.as_bytes(), piece), Err(FetchError::HeadersTooLong), "{piece} {name}");
        }
        let endless = [&b"HTTP/1.1 200 OK\r\nA: "[..], &vec![b'a'; 20_000]].concat();
        assert_eq!(body(&endless, piece), Err(FetchError::HeadersTooLong));
        let hints = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        assert_eq!(body(hints.as_bytes(), piece), Err(FetchError::HeadersTooLong));
        let lines = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(5000));
        assert_eq!(body(lines.as_bytes(), piece), Err(FetchError::HeadersTooLong));
    }
}

#[test]
fn validators_are_as_strong_as_the_rfc_says() {
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    for (fields, if_range) in [
        ("ETag: \"a\"", Some("\"a\"")),
        ("ETag: \"\"", Some("\"\"")),
        ("ETag: \"a\"\r\nLast-Modified: Sat, 05 Nov 1994 08:49:37 GMT", Some("\"a\"")),
        ("Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\r\nETag: \"a\"", Some("\"a\"")),
        ("ETag: W/\"a\"", None),
        ("ETag: W/\"a\"\r\nLast-Modified: Sat, 05 Nov 1994 08:49:37 GMT", None),
        ("ETag: a\r\nLast-Modified: Sat, 05 Nov 1994 08:49:37 GMT", Some("Sat, 05 Nov 1994 08:49:37 GMT")),
        ("Last-Modified: Sun, 06 Nov 1994 08:49:36 GMT", Some("Sun, 06 Nov 1994 08:49:36 GMT")),
        ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT", None),
        ("Last-Modified: yesterday", None),
        ("Accept-Ranges: none", None),
    ] {
        for fields in [format!("{fields}\r\n{DATE}"), format!("{DATE}\r\n{fields}")] {
            let (answer, _) = head(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").as_bytes(), 9).unwrap();
            assert_eq!(answer.validator.for_if_range(), if_range, "{fields}");
        }
    }
    let (answer, _) =
        head(b"HTTP/1.1 200 OK\r\nLast-Modified: Sun, 06 Nov 1994 08:49:36 GMT\r\n\r\n", 9).unwrap();
    assert_eq!(answer.validator.for_if_range(), None, "without a Date");
    assert!(!answer.validator.is_none());
}

#[test]
fn retry_after_is_a_number_or_a_date() {
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (date, value, seconds) in [
        ("", "120", Some(120)),
        ("", "0", Some(0)),
        ("", "99999999999", Some(u32::MAX)),
        ("", "-1", None),
        ("", "soon", None),
        (DATE, "Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
        (DATE, "Sunday, 06-Nov-94 08:51:37 GMT", Some(120)),
        (DATE, "Sun Nov  6 08:51:37 1994", Some(120)),
        (DATE, "Sat, 05 Nov 1994 08:51:37 GMT", Some(0)),
        ("", "Sun, 06 Nov 1994 08:51:37 GMT", None),
    ] {
        for fields in [format!("{date}Retry-After: {value}\r\n"), format!("Retry-After: {value}\r\n{date}")] {
            let (answer, _) = head(format!("HTTP/1.1 503 Busy\r\n{fields}\r\n").as_bytes(), 9).unwrap();
            assert_eq!(answer.retry_after, seconds, "{fields}");
        }
    }
}

#[test]
fn redirects_lead_to_the_next_target() {
    for (location, target) in
        [("c", "h/a/c"), ("", "h/a/b"), ("?x=http://y", "h/a/b?x=http://y"), ("//g:81", "g:81/")]
    {
        for status in [300, 301, 302, 303, 307, 308, 399] {
            let answer = format!("HTTP/1.1 {status} Go\r\nLocation:{location}\r\nContent-Length: x\r\n\r\n");
            let (answer, url) = head(answer.as_bytes(), 9).unwrap();
            assert_eq!((answer.location, url.as_str()), (Some(Ok(())), target), "{status} {location}");
        }
    }
    for status in [200, 304, 404] {
        let answer = format!("HTTP/1.1 {status} No\r\nLocation: c\r\n\r\n");
        assert_eq!(head(answer.as_bytes(), 9).unwrap().0.location, None, "{status}");
    }
}

/// Whatever comes, in whatever pieces, there is an end without a panic.
#[test]
fn any_bytes_come_to_an_end() {
    let words: [&[u8]; 20] = [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 206 ",
        b"\r\n",
        b"\n",
        b" ",
        b"\t",
        b":",
        b"Location",
        b"ETag: \"",
        b"\"",
        b"Content-Length: 9",
        b"Transfer-Encoding: chunked",
        b"Content-Range: bytes 1-2/3",
        b",",
        b"\xFF\0",
        b"A",
        b"0",
        b";",
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
        b"Retry-After: ",
    ];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut answer = Vec::new();
        while !state.is_multiple_of(29) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            answer.extend_from_slice(words[(state >> 33) as usize % words.len()]);
        }
        state = state.wrapping_add(1);
        let _ = body(&answer, 1 + answer.len() % 90).map_err(|error| error.to_string());
    }
}
