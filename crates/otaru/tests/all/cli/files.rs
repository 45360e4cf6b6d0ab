//! `otaru files`: what a device that resumes a download relies on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use otaru_testing::Running;

use crate::common::{otaru, path};

/// A whole HTTP exchange: status, headers in lower case, body.
fn ask(address: &str, request: &str, headers: &[(&str, &str)]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

#[test]
fn ranges_validators_and_changes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f.bin"), b"0123456789").unwrap();
    let files = Running::start(otaru(&["files", "--listen", "127.0.0.1:0", &path(dir.path(), "")]));
    let url = files.line("/f.bin").trim().to_owned();
    let address = url.trim_start_matches("http://").trim_end_matches("/f.bin");

    let (status, head, body) = ask(address, "HEAD /f.bin", &[]);
    assert_eq!((status, header(&head, "content-length"), body.len()), (200, "10", 0));
    assert_eq!(header(&head, "accept-ranges"), "bytes");
    let tag = header(&head, "etag").to_owned();
    header(&head, "last-modified");

    let range = ("Range", "bytes=3-5");
    let (status, head, body) = ask(address, "GET /f.bin", &[range, ("If-Range", &tag)]);
    assert_eq!((status, body.as_slice()), (206, &b"345"[..]));
    assert_eq!(header(&head, "content-range"), "bytes 3-5/10");
    assert_eq!(ask(address, "GET /f.bin", &[("Range", "bytes=10-")]).0, 416);
    files.line("206");

    std::fs::write(dir.path().join("f.bin"), b"abcdefghijk").unwrap();
    let (status, _, body) = ask(address, "GET /f.bin", &[range, ("If-Range", &tag)]);
    assert_eq!((status, body.as_slice()), (200, &b"abcdefghijk"[..]));

    assert_eq!(ask(address, "GET /none.bin", &[]).0, 404);
    for name in ["key.pem", ".hidden.bin"] {
        std::fs::write(dir.path().join(name), b"x").unwrap();
        assert_eq!(ask(address, &format!("GET /{name}"), &[]).0, 404, "{name}");
    }
    assert_eq!(ask(address, "GET /../../etc/passwd", &[]).0, 404);
    assert_eq!(ask(address, "POST /f.bin", &[("Content-Length", "0")]).0, 405);
    assert_eq!(files.stop(), Some(0));
}
