//! A file read from servers that answer from a script, good and bad ones.

use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::task::Poll;
use core::time::Duration;
use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use embassy_futures::poll_once;
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::AddrType;

use super::*;
use crate::tls::NoTls;

const TAG: &str = "ETag: \"one\"\r\n";

/// A network with one server, which answers each connection with the next of its answers, and then ends it.
struct Net {
    answers: RefCell<VecDeque<Vec<u8>>>,
    requests: RefCell<Vec<String>>,
}

struct Connection<'n> {
    net: &'n Net,
    answer: Vec<u8>,
    sent: usize,
}

impl ErrorType for Connection<'_> {
    type Error = ErrorKind;
}

impl Read for Connection<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        let count = (self.answer.len() - self.sent).min(buf.len()).min(700);
        buf[..count].copy_from_slice(&self.answer[self.sent..self.sent + count]);
        self.sent += count;
        Ok(count)
    }
}

impl Write for Connection<'_> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        let mut requests = self.net.requests.borrow_mut();
        requests.last_mut().unwrap().push_str(core::str::from_utf8(buf).unwrap());
        Ok(buf.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl TcpConnect for Net {
    type Error = ErrorKind;
    type Connection<'a> = Connection<'a>;

    async fn connect<'a>(&'a self, _: SocketAddr) -> Result<Connection<'a>, ErrorKind> {
        let answer = self.answers.borrow_mut().pop_front().ok_or(ErrorKind::ConnectionRefused)?;
        self.requests.borrow_mut().push(String::new());
        Ok(Connection { net: self, answer, sent: 0 })
    }
}

impl Dns for Net {
    type Error = ErrorKind;

    async fn get_host_by_name(&self, _: &str, _: AddrType) -> Result<IpAddr, ErrorKind> {
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::Unsupported)
    }
}

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _: Duration) {
        core::future::pending().await
    }
}

/// Tries again at once, and notes why.
struct AtOnce<'e>(&'e RefCell<Vec<FetchError>>);

impl RetryPolicy for AtOnce<'_> {
    async fn ready(&mut self) {}

    fn left_tls(&mut self) {}

    async fn pause(&mut self, error: FetchError, _: u32) -> Result<(), FetchError> {
        let is_last = !error.is_transient() || self.0.borrow().len() == 6;
        self.0.borrow_mut().push(error);
        if is_last { Err(error) } else { Ok(()) }
    }
}

type File<'a> = RemoteFile<'a, Net, NoTls, Still, AtOnce<'a>>;

/// Reads a file from a server with these answers; returns the ranges that were asked for, and why attempts ended.
fn read(answers: Vec<Vec<u8>>, with: impl FnOnce(&mut File<'_>)) -> (Vec<Option<u32>>, Vec<FetchError>) {
    let net = Net { answers: RefCell::new(answers.into()), requests: RefCell::default() };
    let (errors, mut buf) = (RefCell::default(), [0; BUFFER]);
    let (config, policy) = (HttpConfig::DEFAULT, AtOnce(&errors));
    with(&mut RemoteFile::new(
        Dialer { net: &net, tls: &NoTls },
        &Still,
        config,
        &[],
        "http://files/x",
        policy,
        &mut buf,
    ));
    let range = |request: &String| {
        let from = request.split("Range: bytes=").nth(1)?.split('-').next()?;
        from.parse().ok()
    };
    let ranges = net.requests.borrow().iter().map(range).collect();
    (ranges, errors.into_inner())
}

fn fill(file: &mut File<'_>, need: Need) -> Result<usize, FetchError> {
    match poll_once(file.fill(need)) {
        Poll::Ready(filled) => filled,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Takes so many bytes.
fn take(file: &mut File<'_>, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let count = fill(file, Need::More).unwrap().min(len - all.len());
        all.extend_from_slice(&file.piece()[..count]);
        file.consume(count);
    }
    all
}

/// A file whose bytes tell their places.
fn content(len: usize) -> Vec<u8> {
    (0..len as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

/// The whole file, with these fields, as far as `sent`.
fn whole(file: &[u8], fields: &str, sent: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", file.len());
    [head.as_bytes(), &file[..sent]].concat()
}

/// The file from a byte on.
fn part(file: &[u8], fields: &str, from: usize) -> Vec<u8> {
    let (last, len) = (file.len() - 1, file.len());
    let head = format!("HTTP/1.1 206 Part\r\nContent-Range: bytes {from}-{last}/{len}\r\n{fields}\r\n");
    [head.as_bytes(), &file[from..]].concat()
}

#[test]
fn a_short_way_ahead_is_passed_and_a_long_one_asked_for() {
    let all = content(40_000);
    let near = 100 + SKIP as usize;
    let far = near + 100 + SKIP as usize + 1;
    let answers = vec![whole(&all, TAG, all.len()), part(&all, TAG, far), part(&all, TAG, 200)];
    let (ranges, errors) = read(answers, |file| {
        assert_eq!(take(file, 100), all[..100]);
        file.seek(near as u32);
        assert_eq!(take(file, 100), all[near..near + 100]);
        file.seek(far as u32);
        assert_eq!(take(file, 100), all[far..far + 100]);
        file.seek(200);
        assert_eq!(take(file, 1000), all[200..1200]);
        assert_eq!(file.len(), Some(40_000));
    });
    assert_eq!((ranges, errors), (vec![None, Some(far as u32), Some(200)], vec![]));
}

#[test]
fn a_closed_file_goes_on_with_another_request() {
    let all = content(4000);
    let (ranges, errors) = read(vec![whole(&all, TAG, all.len()), part(&all, TAG, 100)], |file| {
        take(file, 100);
        file.close();
        assert_eq!(file.piece(), []);
        assert_eq!(take(file, 100), all[100..200]);
    });
    assert_eq!((ranges, errors), (vec![None, Some(100)], vec![]));
}

#[test]
fn a_server_without_ranges_passes_by_from_its_start() {
    let all = content(40_000);
    let answers = || vec![whole(&all, "", 1000), whole(&all, "", all.len())];
    let (ranges, errors) = read(answers(), |file| {
        file.set_checked(true);
        assert_eq!(take(file, 3000), all[..3000]);
        file.seek(39_000);
        assert_eq!(take(file, 100), all[39_000..39_100], "a long way, but without a request");
    });
    assert_eq!((ranges, errors), (vec![None, Some(1000)], vec![FetchError::Truncated]));
    // Who cannot check what came before takes nothing of it, for it may have been of another file.
    let (ranges, _) = read(answers(), |file| {
        assert_eq!(take(file, 1000), all[..1000]);
        assert_eq!(fill(file, Need::More), Err(FetchError::StartOver));
        assert_eq!(take(file, 3000), all[..3000]);
    });
    assert_eq!(ranges, [None, Some(1000)]);
}

#[test]
fn a_file_that_changed_starts_over_a_bounded_number_of_times() {
    let all = content(4000);
    let tagged = |number: u32| format!("ETag: \"{number}\"\r\n");
    let answers = (0..9).map(|number| whole(&all, &tagged(number), 1000)).collect();
    let (ranges, errors) = read(answers, |file| {
        file.set_checked(true);
        for _ in 0..=MAX_CHANGES {
            assert_eq!(take(file, 1000), all[..1000]);
            let end = fill(file, Need::More).unwrap_err();
            assert!(matches!(end, FetchError::StartOver | FetchError::ContentChanged), "{end}");
        }
    });
    assert_eq!(ranges, [None, Some(1000), Some(1000), Some(1000)]);
    assert_eq!(errors.last(), Some(&FetchError::ContentChanged));
}

#[test]
fn a_part_of_another_version_is_not_taken() {
    let all = content(4000);
    let other = "ETag: \"two\"\r\n";
    // The server does not know If-Range.
    let answers = vec![whole(&all, TAG, 1000), part(&all, other, 1000), whole(&all, other, all.len())];
    let (ranges, errors) = read(answers, |file| {
        file.set_checked(true);
        take(file, 1000);
        assert_eq!(fill(file, Need::More), Err(FetchError::StartOver));
        assert_eq!(file.piece(), []);
        assert_eq!(take(file, 4000), all);
    });
    assert_eq!(ranges, [None, Some(1000), None]);
    assert_eq!(errors, [FetchError::Truncated; 2], "a useless answer counts as an attempt");
}

#[test]
fn more_than_the_range_that_was_announced_is_not_taken() {
    let all = content(4000);
    let long =
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 1000-1099/4000\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = [long.as_bytes(), b"C8\r\n", &[0x55; 200], b"\r\n0\r\n\r\n"].concat();
    let (ranges, errors) = read(vec![whole(&all, TAG, 1000), long, part(&all, TAG, 1000)], |file| {
        assert_eq!(take(file, 4000), all);
    });
    assert_eq!(ranges, [None, Some(1000), Some(1000)]);
    assert_eq!(errors, [FetchError::Truncated, FetchError::BadResponse]);
}

#[test]
fn a_file_may_end_where_its_reader_says_so() {
    let all = content(1000);
    let none = b"HTTP/1.1 416 No\r\nContent-Range: bytes */1000\r\n\r\n".to_vec();
    let (ranges, _) = read(vec![whole(&all, TAG, 1000), none], |file| {
        take(file, 1000);
        assert_eq!(fill(file, Need::MayEnd), Ok(0));
        assert_eq!(fill(file, Need::Enough), Ok(0));
        assert_eq!(fill(file, Need::More), Err(FetchError::ShortFile));
    });
    assert_eq!(ranges, [None, Some(1000)]);
    // Where bytes are missing, only who has enough ends there.
    for (need, requests) in [(Need::Enough, 1), (Need::MayEnd, 2)] {
        let (ranges, _) = read(vec![whole(&all, TAG, 500), part(&all, TAG, 500)], |file| {
            take(file, 500);
            assert_eq!(fill(file, need).is_ok_and(|count| count > 0), requests == 2);
        });
        assert_eq!(ranges.len(), requests);
    }
}
