//! Each row of the tables in `docs/http.md`, tried on a virtual device.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use otaru_device::AllowedHost;
use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, Request, file};
use otaru_sim::lab::{Lab, Setup, firmware, run};

const LONG: Duration = Duration::from_secs(24 * 3600);
const SIZE: usize = 40_000;
const ETAG: &str = "\"one\"";
const URL: &str = "http://files/new.bin";
const HOSTS: &[AllowedHost<'static>] =
    &[AllowedHost::new("files"), AllowedHost::new("*.example.org:80"), AllowedHost::new("10.0.0.1:80")];

/// End of an update.
struct End {
    status: Status<String>,
    requests: Vec<Request>,
    took: Duration,
}

/// Has a device follow a command while a server answers so.
fn update(
    command: &str,
    hosts: &'static [AllowedHost<'static>],
    handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
) -> End {
    run(async move {
        let mut setup = Setup::default();
        setup.config.hosts = hosts;
        let mut lab = Lab::new(setup, &firmware("1.0.0", SIZE, Behaviour::Healthy)).unwrap();
        lab.power_on();
        lab.ready().await;
        let new = firmware("1.1.0", SIZE, Behaviour::Healthy);
        lab.http.handle(move |request| handler(request, &new));
        let before = otaru_device::Clock::now(&lab.clock);
        lab.broker.publish("ESP32/ota/update", command, false);
        let end = lab.wait_for(LONG, |status| status.state.is_final()).await;
        let status = end.expect("the update must come to an end");
        let took = otaru_device::Clock::now(&lab.clock) - before;
        for word in lab.reports().into_iter().filter_map(|report| report.error).map(|fault| fault.detail) {
            assert!(!word.contains("secret"), "bytes of the server in a report: {word}");
        }
        assert!(!lab.lines().iter().any(|line| line.contains("secret")), "{:?}", lab.lines());
        End { status, requests: lab.http.requests(), took }
    })
}

/// Rows that were tried, and how often.
struct Rows {
    tried: RefCell<BTreeMap<&'static str, usize>>,
}

impl Rows {
    fn note(&self, row: &'static str) {
        *self.tried.borrow_mut().entry(row).or_default() += 1;
    }

    /// The image is taken after so many requests.
    fn taken(
        &self,
        row: &'static str,
        count: usize,
        handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) -> End {
        self.note(row);
        let end = update(URL, &[], handler);
        assert_eq!(end.status.state, UpdateState::Confirmed, "{row}: {:?}", end.status);
        assert_eq!(end.status.version, "1.1.0", "{row}");
        assert_eq!(end.requests.len(), count, "{row}: {:?}", end.requests);
        end
    }

    /// The update fails so, after so many requests.
    fn fails(
        &self,
        row: &'static str,
        code: Code,
        count: usize,
        handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) -> End {
        self.note(row);
        let end = update(URL, &[], handler);
        assert_eq!(end.status.state, UpdateState::Failed, "{row}: {:?}", end.status);
        assert_eq!(end.status.error.as_ref().unwrap().code, code, "{row}: {:?}", end.status);
        assert_eq!(end.requests.len(), count, "{row}: {:?}", end.requests);
        end
    }

    /// The answer is taken as the whole file, at once.
    fn is_whole(&self, row: &'static str, head: &str) {
        let head = head.to_owned();
        self.taken(row, 1, move |_, new| whole(&head, new));
    }

    /// The answer is refused as one that breaks HTTP, and asked for again.
    fn is_broken(&self, row: &'static str, head: &str) {
        let head = head.to_owned();
        self.fails(row, Code::BadResponse, 6, move |_, new| whole(&head, new));
    }

    /// The answer ends the update at once.
    fn is_final(&self, row: &'static str, code: Code, head: &str) {
        let head = head.to_owned();
        self.fails(row, code, 1, move |_, new| whole(&head, new));
    }

    /// The answer to a request for the rest leads to this.
    fn rest(
        &self,
        row: &'static str,
        wanted: Result<usize, (Code, usize)>,
        first: &'static str,
        rest: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) -> End {
        let handler = move |request: &Request, new: &[u8]| match request.number {
            0 => cut(first, new),
            _ => rest(request, new),
        };
        match wanted {
            Ok(count) => self.taken(row, count, handler),
            Err((code, count)) => self.fails(row, code, count, handler),
        }
    }

    /// A command's URL is asked for as this host and path.
    fn asks(&self, row: &'static str, url: &str, host: &str, path: &str) {
        self.note(row);
        let end = update(url, &[], |request, new| file(request, new, ETAG));
        assert_eq!(end.status.state, UpdateState::Confirmed, "{row}: {url}: {:?}", end.status);
        let request = &end.requests[0];
        assert_eq!((request.header("host"), request.path.as_str()), (Some(host), path), "{row}: {url}");
    }

    /// A command is refused, and nothing asked.
    fn refused(&self, row: &'static str, code: Code, url: &str) {
        self.note(row);
        let end = update(url, HOSTS, |request, new| file(request, new, ETAG));
        assert_eq!(end.status.state, UpdateState::Refused, "{row}: {url}: {:?}", end.status);
        assert_eq!(end.status.error.as_ref().unwrap().code, code, "{row}: {url}: {:?}", end.status);
        assert!(end.requests.is_empty(), "{row}: {url}");
    }

    /// A redirect leads to this host and path.
    fn leads(&self, row: &'static str, location: &str, host: &str, path: &str) {
        let location = location.to_owned();
        let start = "http://files/a/b/new.bin?q=1";
        self.note(row);
        let end = update(start, &[], move |request, new| match request.number {
            0 => raw(&format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")),
            _ => file(request, new, ETAG),
        });
        assert_eq!(end.status.state, UpdateState::Confirmed, "{row}: {:?}", end.status);
        let request = end.requests.last().unwrap();
        assert_eq!((request.header("host"), request.path.as_str()), (Some(host), path), "{row}");
    }

    /// A redirect is not followed.
    fn leads_nowhere(&self, row: &'static str, code: Code, text: &str, location: &str) {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
        let end = self.fails(row, code, 1, move |_, _| raw(&head));
        let detail = end.status.error.unwrap().detail;
        assert!(detail.contains(text) && detail.contains("the server redirects to"), "{row}: {detail}");
    }

    /// Every row of the document's tables under these headings was tried, and no other.
    fn are_all_under(&self, headings: &[&str]) {
        let document = include_str!("../../../docs/http.md");
        let tried = self.tried.borrow();
        let mut rows = Vec::new();
        for heading in headings {
            let section = document.split(&format!("\n{heading}\n")).nth(1).unwrap();
            let table = section.lines().skip_while(|line| !line.starts_with('|'));
            let table = table.take_while(|line| line.starts_with('|')).skip(2);
            rows.extend(table.map(|line| line[2..].split(" | ").next().unwrap()));
        }
        for row in &rows {
            assert!(tried.contains_key(row), "not tried: {row}");
        }
        for row in tried.keys() {
            assert!(rows.contains(row), "not in the document: {row}");
        }
    }
}

fn rows() -> Rows {
    Rows { tried: RefCell::default() }
}

fn raw(text: &str) -> Vec<Act> {
    vec![Act::Send(text.as_bytes().to_vec()), Act::Close]
}

/// This head, in which `LEN` is the file's length, and then the whole file.
fn whole(head: &str, new: &[u8]) -> Vec<Act> {
    let head = head.replace("LEN", &new.len().to_string());
    vec![Act::Send(head.into_bytes()), Act::Send(new.to_vec()), Act::Close]
}

/// The first half of the file, with these fields, and then the end.
fn cut(fields: &str, new: &[u8]) -> Vec<Act> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", new.len());
    vec![Act::Send(head.into_bytes()), Act::Send(new[..new.len() / 2].to_vec()), Act::Close]
}

/// The rest, as it was asked for, up to `end`, with these fields.
fn part(request: &Request, new: &[u8], end: usize, fields: &str) -> Vec<Act> {
    let from = request.from().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n{fields}\r\n",
        end - 1,
        new.len()
    );
    vec![Act::Send(head.into_bytes()), Act::Send(new[from..end].to_vec()), Act::Close]
}

/// A body in chunks that end so.
fn chunks(head: &str, new: &[u8], end: &str) -> Vec<Act> {
    let mut body = head.as_bytes().to_vec();
    for piece in new.chunks(3000) {
        body.extend(format!("{:x};name=\"value\"\r\n", piece.len()).bytes());
        body.extend(piece);
        body.extend(b"\r\n");
    }
    body.extend(end.bytes());
    vec![Act::Send(body), Act::Close]
}

#[test]
fn urls() {
    let rows = rows();
    let row = "`HTTP://Server:80/x`, `http://server:/x`, `http://server`";
    rows.asks(row, "HTTP://Server:80/x", "server", "/x");
    rows.asks(row, "http://server:/x", "server", "/x");
    rows.asks(row, "http://server", "server", "/");
    rows.asks(row, "http://server?x", "server", "/?x");
    rows.asks("a fragment, `#part`", "http://server/x?y#part", "server", "/x?y");
    rows.asks("`.` and `..` between slashes", "http://server/a/./b/../../c", "server", "/c");
    let row = "letters beyond ASCII, and <code>\"<>[\\]^`{&#124;}</code>, in path or query";
    rows.asks(row, "http://server/ü|\\.bin?é=100%", "server", "/%C3%BC%7C%5C.bin?%C3%A9=100%25");
    let row = "spaces, control characters, no host, a bad port";
    for url in
        ["http://h/a b", "http://h/a\tb", "http:///x", "http://h:0/", "http://h:+1/", "http://h:65536/"]
    {
        rows.refused(row, Code::BadCommand, url);
    }
    rows.refused("a host in letters beyond ASCII", Code::BadCommand, "http://münchen.example/x");
    rows.asks(
        "a host in letters beyond ASCII",
        "http://xn--mnchen-3ya.example/",
        "xn--mnchen-3ya.example",
        "/",
    );
    let row = "a login, `user:password@server`";
    for url in ["http://user:secret@files/x", "http://secret@files/x", r#"{"url":"http://u:secret@files/x"}"#]
    {
        rows.refused(row, Code::BadCommand, url);
    }
    let row = "an IPv6 address in brackets";
    rows.asks(row, "http://[2001:DB8::1]/x", "[2001:db8::1]", "/x");
    rows.refused(row, Code::BadCommand, "http://[fe80::1%25eth0]/x");
    for host in ["2130706433", "127.1", "0x7f000001", "0177.0.0.1"] {
        let row = "`2130706433`, `127.1`, `0x7f000001`, `0177.0.0.1`";
        rows.refused(row, Code::BadCommand, &format!("http://{host}/x"));
    }
    for url in ["https://files/x", "ftp://files/x", "HTTPS://user:secret@files/x"] {
        rows.refused("`https://` or another scheme", Code::UnsupportedUrl, url);
    }
    // Were a name resolved or a connection opened, these were `dns` and `connect`.
    for url in ["http://off.invalid/x", "http://10.0.0.1:81/x", "http://10.0.0.2/x", "http://example.org/x"] {
        rows.refused("a host that is not on the device's list", Code::HostNotAllowed, url);
    }
    rows.are_all_under(&["## URLs"]);
}

#[test]
fn hosts() {
    for url in ["http://FILES./new.bin", "http://a.b.Example.org/new.bin", "http://[::ffff:10.0.0.1]/new.bin"]
    {
        let end = update(url, HOSTS, |request, new| file(request, new, ETAG));
        assert_eq!(end.status.state, UpdateState::Confirmed, "{url}: {:?}", end.status);
    }
}

#[test]
fn status_codes() {
    let rows = rows();
    let ok = |status: &str| format!("HTTP/1.1 {status} Status\r\nContent-Length: LEN\r\n\r\n");
    let no = |status: &str| format!("HTTP/1.1 {status} secret\r\nX: secret\r\nContent-Length: LEN\r\n\r\n");
    let row = "`1xx` other than `101`";
    for interim in
        ["100 Continue\r\n", "102 Processing\r\n", "103 Hints\r\nLink: </x>\r\n", "199 X\r\nLocation: /\r\n"]
    {
        rows.is_whole(row, &format!("HTTP/1.1 {interim}\r\nHTTP/1.1 {interim}\r\n{}", ok("200")));
    }
    rows.is_broken("`101`", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n");
    rows.is_whole("`200`", &ok("200"));
    let tag = "ETag: \"one\"\r\n";
    rows.rest("`200` instead of a part, same version", Ok(2), tag, |_, new| {
        whole("HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: LEN\r\n\r\n", new)
    });
    let row = "`200` instead of a part, another version or length";
    rows.rest(row, Ok(2), tag, |request, new| file(request, new, "\"two\""));
    rows.rest(row, Ok(2), "", |_, new| {
        let longer = [new, &[0xFF; 100]].concat();
        whole("HTTP/1.1 200 OK\r\nContent-Length: LEN\r\n\r\n", &longer)
    });
    rows.fails(row, Code::ContentChanged, 4, |request, new| {
        cut(&format!("ETag: \"{}\"\r\n", request.number), new)
    });
    rows.is_whole("`203`", &ok("203"));
    for status in ["201", "202", "204", "205", "207", "208", "226"] {
        rows.is_final("`201` `202` `204` `205` `207` `208` `226`", Code::HttpStatus, &no(status));
    }
    rows.is_whole("any other `2xx`", &ok("218"));
    let row = "`206` with the range asked for";
    let end = rows.rest(row, Ok(2), tag, |request, new| part(request, new, new.len(), "ETag: \"one\"\r\n"));
    assert_eq!(end.requests[1].header("if-range"), Some(ETAG));
    rows.rest(row, Ok(2), "", |request, new| {
        let from = request.from().unwrap();
        let head = format!("HTTP/1.0 206 Partial\r\nContent-Range: BYTES {from}-{}/*\r\n\r\n", new.len() - 1);
        vec![Act::Send(head.into_bytes()), Act::Send(new[from..].to_vec()), Act::Stall]
    });
    rows.rest("`206` with fewer bytes than asked for", Ok(3), tag, |request, new| {
        part(request, new, new.len().min(request.from().unwrap() + 10_000), "ETag: \"one\"\r\n")
    });
    rows.rest("`206` with another range", Err((Code::BadResponse, 6)), tag, |_, new| {
        whole(&format!("HTTP/1.1 206 P\r\nContent-Range: bytes 0-{}/LEN\r\n\r\n", new.len() - 1), new)
    });
    let row = "`206` whose `Content-Length` is not its range's";
    rows.rest(row, Err((Code::BadResponse, 6)), tag, |request, new| {
        part(request, new, new.len(), "Content-Length: 7\r\n")
    });
    // Taken are neither the bytes too many nor what looks as if it were good; the next answer is whole.
    rows.rest("`206` in chunks that hold more than its range", Ok(3), tag, |request, new| match request.number {
        1 => {
            let from = request.from().unwrap();
            let head = format!(
                "HTTP/1.1 206 P\r\nContent-Range: bytes {from}-{}/{}\r\nTransfer-Encoding: chunked\r\n\r\n",
                from + 99,
                new.len()
            );
            chunks(&head, &[&new[from..from + 100], &[0x55; 400]].concat(), "0\r\n\r\n")
        }
        _ => file(request, new, ETAG),
    });
    let row = "`206` with `Content-Range` twice";
    rows.rest(row, Err((Code::BadResponse, 6)), tag, |request, new| {
        part(request, new, new.len(), "Content-Range: bytes 0-39/99\r\n")
    });
    rows.rest("`206` without `Content-Range`", Err((Code::BadResponse, 6)), tag, |_, new| {
        whole("HTTP/1.1 206 P\r\nContent-Type: multipart/byteranges; boundary=x\r\n\r\n", new)
    });
    rows.fails("`206` that was not asked for", Code::BadResponse, 6, |request, new| {
        part(request, new, new.len(), "")
    });
    let row = "`206` of another version or total length";
    rows.rest(row, Ok(3), tag, |request, new| match request.number {
        1 => part(request, new, new.len(), "ETag: \"two\"\r\n"),
        _ => file(request, new, "\"two\""),
    });
    rows.rest(row, Ok(3), tag, |request, new| match request.number {
        1 => raw(&format!(
            "HTTP/1.1 206 P\r\nContent-Range: bytes {}-99998/99999\r\n\r\n",
            request.from().unwrap()
        )),
        _ => file(request, new, ETAG),
    });
    let dates = "Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let end = rows.rest("`206` without the date that `If-Range` had", Ok(2), dates, |request, new| {
        part(request, new, new.len(), "")
    });
    assert_eq!(end.requests[1].header("if-range"), Some("Sat, 05 Nov 1994 08:49:37 GMT"));
    let location =
        |status: u16| format!("HTTP/1.1 {status} Go\r\nLocation: /b\r\nContent-Length: many\r\n\r\n");
    for status in [301, 302, 303, 307, 308] {
        let head = location(status);
        rows.taken("`301` `302` `303` `307` `308`", 2, move |request, new| match request.number {
            0 => raw(&head),
            _ => file(request, new, ETAG),
        });
        rows.is_broken("`301` `302` `303` `307` `308` without `Location`", &no(&status.to_string()));
    }
    rows.fails("`301` `302` `303` `307` `308`", Code::TooManyRedirects, 6, move |_, _| raw(&location(302)));
    for status in [300, 399] {
        let head = location(status);
        rows.taken("`300`, or an unknown `3xx`, with `Location`", 2, move |request, new| {
            match request.number {
                0 => raw(&head),
                _ => file(request, new, ETAG),
            }
        });
        let row = "`300`, or an unknown `3xx`, without `Location`";
        rows.is_final(row, Code::HttpStatus, &no(&status.to_string()));
    }
    for status in [304, 305, 306] {
        rows.is_final("`304` `305` `306`", Code::HttpStatus, &location(status));
    }
    let tried_again = |row: &'static str, status: &str| {
        let head = no(status);
        let end = rows.fails(row, Code::HttpStatus, 6, move |_, new| whole(&head, new));
        assert_eq!(
            end.status.error.unwrap().detail,
            format!("the server answered {}", status.parse::<u16>().unwrap())
        );
    };
    for status in ["408", "421", "425", "429"] {
        tried_again("`408` `421` `425` `429`", status);
    }
    let range = |text: &'static str| move |_: &Request, _: &[u8]| raw(text);
    let row = "`416`, and the file ends just where the device is";
    let half = "HTTP/1.1 416 No\r\nContent-Range: bytes */20000\r\n\r\n";
    let short = move |request: &Request, new: &[u8]| match request.number {
        0 => whole("HTTP/1.1 200 OK\r\nContent-Length: LEN\r\n\r\n", &new[..20_000]),
        _ => raw(half),
    };
    rows.fails(row, Code::Truncated, 2, short);
    let row = "`416`, and the file has another length, or none is told";
    for head in ["HTTP/1.1 416 No\r\nContent-Range: bytes */99\r\n\r\n", "HTTP/1.1 416 No\r\n\r\n"] {
        rows.rest(row, Ok(3), tag, move |request, new| match request.number {
            1 => raw(head),
            _ => file(request, new, ETAG),
        });
    }
    rows.fails("any other `4xx`", Code::HttpStatus, 1, range("HTTP/1.1 416 No\r\n\r\n"));
    for status in ["400", "401", "403", "404", "410", "418", "451", "499"] {
        rows.is_final("any other `4xx`", Code::HttpStatus, &no(status));
    }
    for status in ["500", "501", "502", "503", "504", "511", "599"] {
        tried_again("`5xx`", status);
    }
    for status in ["099", "600", "999"] {
        tried_again("a number below 100 or above 599", status);
    }
    rows.are_all_under(&["### Status codes"]);
}

#[test]
fn redirects() {
    let rows = rows();
    rows.leads("an absolute URL", "HTTP://Other:80/../x#part", "other", "/x");
    rows.are_followed();
    let row = "`/x?from=http://other/`";
    rows.leads(row, "/x?from=http://other/", "files", "/x?from=http://other/");
    let long = |len: usize| format!("/{}", "s".repeat(len - "files/".len()));
    for len in [600, 1500, 2047, 2048] {
        rows.leads("up to 2,048 bytes", &long(len), "files", &long(len));
    }
    for len in [2049, 2100, 5000] {
        let row = "more than 2,048 bytes";
        rows.is_final(row, Code::BadResponse, &format!("HTTP/1.1 302 Go\r\nLocation: {}\r\n\r\n", long(len)));
    }
    rows.leads("spaces and letters beyond ASCII", "/a b/ü.bin", "files", "/a%20b/%C3%BC.bin");
    let row = "`https://` or another scheme";
    rows.leads_nowhere(row, Code::UnsupportedUrl, "https://", "https://secret.example/x");
    rows.leads_nowhere(row, Code::UnsupportedUrl, "not http://", "ftp://secret.example/x");
    let row = "a login, a host that cannot be one";
    rows.leads_nowhere(row, Code::BadResponse, "login", "http://user:secret@files/x");
    for host in ["", "h:0", "h:secret", "[fe80::1%25secret]", "127.1"] {
        rows.leads_nowhere(row, Code::BadResponse, "cannot be used", &format!("http://{host}/x"));
    }
    rows.leads_nowhere(row, Code::BadResponse, "punycode", "http://münchen.secret/");
    let row = "a host that is not on the device's list";
    for target in ["//secret.invalid/x", "http://files.example.org:81/x", "http://10.0.0.2/x"] {
        rows.note(row);
        let end =
            update(URL, HOSTS, move |_, _| raw(&format!("HTTP/1.1 302 Go\r\nLocation: {target}\r\n\r\n")));
        let error = end.status.error.unwrap();
        assert_eq!((end.status.state, error.code), (UpdateState::Failed, Code::HostNotAllowed), "{target}");
        assert!(error.detail.contains("redirects"), "{error:?}");
    }
    rows.is_broken("twice in an answer", "HTTP/1.1 302 Go\r\nLocation: /x\r\nLocation: /x\r\n\r\n");
    let row = "with a status that is no redirect";
    rows.is_whole(row, "HTTP/1.1 200 OK\r\nLocation: https://u:p@x/\r\nContent-Length: LEN\r\n\r\n");
    rows.are_all_under(&["### Redirects"]);
}

impl Rows {
    fn are_followed(&self) {
        let row = "`//other/x`, `/x`, `x`, `../x`, `?x`, `#x` or nothing";
        for (location, host, path) in [
            ("//other/x", "other", "/x"),
            ("/x", "files", "/x"),
            ("x", "files", "/a/b/x"),
            ("../x", "files", "/a/x"),
            ("?x", "files", "/a/b/new.bin?x"),
            ("#x", "files", "/a/b/new.bin?q=1"),
            ("", "files", "/a/b/new.bin?q=1"),
        ] {
            self.leads(row, location, host, path);
        }
    }
}

#[test]
fn framing() {
    let rows = rows();
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    rows.is_whole("`Content-Length`", &ok("Content-Length: LEN"));
    let row = "`Content-Length`, the same several times";
    rows.is_whole(row, &ok("Content-Length: LEN, LEN"));
    rows.is_whole(row, &ok("Content-Length: LEN\r\ncontent-length:LEN"));
    let row = "`Content-Length`, different ones, or no number";
    for value in ["LEN, 1", "LEN\r\nContent-Length: 1", "secret", "-1", "+1", "0x10", ""] {
        rows.is_broken(row, &ok(&format!("Content-Length: {value}")));
    }
    let row = "`Content-Length` larger than the slot";
    for value in ["9999999", "4294967296", "99999999999999999999999"] {
        let head = ok(&format!("Content-Length: {value}"));
        rows.note(row);
        let end = update(URL, &[], move |_, new| whole(&head, new));
        assert_eq!(end.status.error.unwrap().code, Code::TooLarge, "{value}");
    }
    let row = "`Content-Length` together with `Transfer-Encoding`";
    rows.is_broken(row, &ok("Content-Length: LEN\r\nTransfer-Encoding: chunked"));
    rows.is_broken(row, &ok("Transfer-Encoding: identity\r\nContent-Length: LEN"));
    for coding in
        ["chunked", "CHUNKED", " Chunked ", "chunked,", ", ,chunked ,\t,", "chunked\r\nTransfer-Encoding:"]
    {
        let head = ok(&format!("transfer-ENCODING:{coding}"));
        rows.taken("`Transfer-Encoding: chunked`, in any letter case", 1, move |_, new| {
            chunks(&head, new, "0;last\r\nX-Checksum: secret\r\n\r\n")
        });
    }
    let head = ok("Transfer-Encoding: chunked");
    for (row, code, end) in [
        ("chunks that end early", Code::Truncated, "400\r\nhello"),
        ("a chunk without a size, or with one above 32 bits", Code::BadResponse, "secret\r\n"),
        ("a chunk without a size, or with one above 32 bits", Code::BadResponse, "\r\n\r\n"),
        ("a chunk without a size, or with one above 32 bits", Code::BadResponse, "100000000\r\n"),
    ] {
        let head = head.clone();
        rows.fails(row, code, 6, move |_, new| chunks(&head, &new[..10_000], end));
    }
    let row = "`Transfer-Encoding` with another coding, such as `gzip, chunked`";
    for coding in ["gzip, chunked", "gzip", "br", "deflate\r\nTransfer-Encoding: chunked"] {
        rows.is_final(row, Code::Compressed, &ok(&format!("Transfer-Encoding: {coding}")));
    }
    for coding in ["chunked, chunked", "chunked, gzip", "chunked\r\nTransfer-Encoding: chunked"] {
        rows.is_broken("`chunked` twice, or not last", &ok(&format!("Transfer-Encoding: {coding}")));
    }
    let row = "`Transfer-Encoding` from HTTP/1.0";
    rows.is_broken(row, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    rows.is_whole("neither length nor chunks", &ok("Server: x"));
    rows.is_whole("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: LEN\r\n\r\n");
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 "] {
        rows.is_whole("a status line without a reason", &format!("{line}\r\nContent-Length: LEN\r\n\r\n"));
    }
    rows.is_whole("lines that end in a bare LF", "HTTP/1.1 200 OK\nETag: \"x\"\nContent-Length: LEN\n\n");
    rows.is_whole("empty lines before the status line", &format!("\r\n\n\r\n{}", ok("Content-Length: LEN")));
    let row = "a field that goes on in the next line";
    rows.is_whole(row, &ok("X: a\r\n b\r\n\tc\r\nContent-Length:\r\n LEN"));
    rows.is_broken(row, &ok("Content-Length: 1\r\n LEN"));
    for field in ["Content-Length : LEN", "X : a", ": a", "no colon", "a b: c"] {
        rows.is_broken("a space before the colon, or no name at all", &ok(field));
    }
    rows.is_broken(
        "control characters in a field that is needed",
        &ok("ETag: \"a\0b\"\r\nContent-Length: LEN"),
    );
    let row = "a field that is not needed";
    for len in [2000, 6144, 15_000] {
        rows.is_whole(row, &ok(&format!("Set-Cookie: {}\r\nContent-Length: LEN", "c".repeat(len))));
    }
    rows.is_whole(row, &ok(&format!("{}Content-Length: LEN", "X: some value\r\n".repeat(1000))));
    rows.is_whole(row, &ok("X: \u{1}\u{fffd}\r\nContent-Length: LEN"));
    let row = "a field that is needed, of more than 2,112 bytes";
    rows.is_final(row, Code::BadResponse, &ok(&format!("ETag: \"{}\"", "e".repeat(2200))));
    let row = "more than 16 KiB of headers, `1xx` included";
    rows.is_final(row, Code::BadResponse, &ok(&format!("X: {}", "x".repeat(17_000))));
    rows.is_final(row, Code::BadResponse, &"HTTP/1.1 100 Continue\r\n\r\n".repeat(700));
    for banner in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/2 200\r\n\r\n"]
    {
        rows.is_broken("something else than HTTP", banner);
    }
    rows.are_all_under(&["### Framing"]);
}

#[test]
fn fields() {
    let rows = rows();
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let asks_with = |row: &'static str, fields: &str, if_range: Option<&str>| {
        let fields: &'static str = Box::leak(fields.to_owned().into_boxed_str());
        let end = rows.rest(row, Ok(2), fields, move |request, new| part(request, new, new.len(), fields));
        assert!(end.requests[1].from().is_some(), "{row}");
        assert_eq!(end.requests[1].header("if-range"), if_range, "{row}");
    };
    let before = "Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\r\n";
    asks_with("`ETag: \"x\"`", "ETag: \"x\"\r\n", Some("\"x\""));
    asks_with("`ETag: \"x\"`", &format!("{before}{date}ETag: \"x\"\r\n"), Some("\"x\""));
    asks_with("`ETag: W/\"x\"`", "ETag: W/\"x\"\r\n", None);
    asks_with("`ETag: W/\"x\"`", &format!("ETag: W/\"x\"\r\n{before}{date}"), None);
    rows.rest("`ETag: W/\"x\"`", Ok(3), "ETag: W/\"x\"\r\n", |request, new| match request.number {
        1 => part(request, new, new.len(), "ETag: W/\"y\"\r\n"),
        _ => file(request, new, ETAG),
    });
    asks_with("`ETag: x`", "ETag: x\r\n", None);
    let row = "`Last-Modified` before `Date`";
    asks_with(row, &format!("{before}{date}"), Some("Sat, 05 Nov 1994 08:49:37 GMT"));
    asks_with(row, &format!("{date}ETag: x\r\n{before}"), Some("Sat, 05 Nov 1994 08:49:37 GMT"));
    let row = "`Last-Modified` without a later `Date`";
    asks_with(row, before, None);
    asks_with(row, &format!("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n{date}"), None);
    rows.rest(row, Ok(3), before, |request, new| match request.number {
        1 => part(request, new, new.len(), "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        _ => file(request, new, ETAG),
    });
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: LEN\r\n\r\n");
    for coding in ["identity", "IDENTITY", "", "identity, identity"] {
        rows.is_whole("`Content-Encoding: identity`, or empty", &ok(&format!("Content-Encoding: {coding}")));
    }
    for coding in ["gzip", "br", "identity, gzip", "gzip\r\nContent-Encoding: identity", "x-secret"] {
        let row = "`Content-Encoding` with another coding";
        rows.is_final(row, Code::Compressed, &ok(&format!("Content-Encoding: {coding}")));
    }
    let waits = |row: &'static str, fields: &str, least: u64, most: u64| {
        let head = format!("HTTP/1.1 503 Busy\r\n{fields}\r\n\r\n");
        let end = rows.taken(row, 2, move |request, new| match request.number {
            0 => raw(&head),
            _ => file(request, new, ETAG),
        });
        let took = end.took.as_secs_f64();
        assert!(took >= least as f64 && took < most as f64, "{row}: {took}");
    };
    waits("`Retry-After: 120`", "Retry-After: 120", 120, 130);
    waits("`Retry-After: 120`", "Retry-After: 99999999999", 300, 310);
    waits("`Retry-After: 120`", "Retry-After: 0", 0, 10);
    let end = rows.fails("`Retry-After: 120`", Code::HttpStatus, 6, |_, _| {
        raw("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\n\r\n")
    });
    assert!(end.took > Duration::from_secs(10), "no flood: {:?}", end.took);
    let row = "`Retry-After` with a date";
    for until in
        ["Sun, 06 Nov 1994 08:51:37 GMT", "Sunday, 06-Nov-94 08:51:37 GMT", "Sun Nov  6 08:51:37 1994"]
    {
        waits(row, &format!("Retry-After: {until}\r\n{}", date.trim_end()), 120, 130);
    }
    waits(row, "Retry-After: Sun, 06 Nov 1994 08:51:37 GMT", 0, 10);
    waits("`Retry-After` with anything else", "Retry-After: soon, secret", 0, 10);
    asks_with("`Accept-Ranges: none`", "Accept-Ranges: none\r\n", None);
    let row = "`Connection`, `Keep-Alive`";
    rows.is_whole(row, &ok("Connection: keep-alive, Upgrade\r\nKeep-Alive: timeout=5"));
    rows.is_whole(row, &ok("Connection: close"));
    let row = "`Content-Type`, `Content-Location`, `Link`, `Set-Cookie` and all others";
    rows.is_whole(
        row,
        &ok("Content-Type: text/html\r\nContent-Location: /x\r\nLink: </x>\r\nSet-Cookie: a=secret"),
    );
    rows.are_all_under(&["### Fields"]);
}
