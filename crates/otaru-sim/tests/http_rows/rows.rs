//! Rows of the document, and what a row may say: each kind of outcome is a function.

use std::rc::Rc;

use super::*;

/// Rows that were tried, and how often.
pub(crate) struct Rows {
    tried: RefCell<BTreeMap<&'static str, usize>>,
}

impl Rows {
    pub(crate) fn note(&self, row: &'static str) {
        *self.tried.borrow_mut().entry(row).or_default() += 1;
    }

    /// The image is taken after so many requests.
    pub(crate) fn taken(
        &self,
        row: &'static str,
        count: usize,
        handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) -> End {
        self.note(row);
        let [end, over_tls] = in_clear_and_over_tls(handler);
        for end in [&end, &over_tls] {
            assert_eq!(end.status.state, UpdateState::Confirmed, "{row}: {:?}", end.status);
            assert_eq!(end.status.version, "1.1.0", "{row}");
            assert_eq!(attempts(&end.requests), count, "{row}: {:?}", end.requests);
        }
        end
    }

    /// The update fails so in clear, after so many requests: over TLS a part is asked for, and this is one.
    pub(crate) fn fails_without_tls(
        &self,
        row: &'static str,
        code: Code,
        count: usize,
        handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) {
        self.note(row);
        assert_failed(row, &update(URL, &[], handler), code, count);
    }

    /// The update fails so, after so many requests.
    pub(crate) fn fails(
        &self,
        row: &'static str,
        code: Code,
        count: usize,
        handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
    ) -> End {
        self.note(row);
        let [end, over_tls] = in_clear_and_over_tls(handler);
        assert_failed(row, &end, code, count);
        assert_failed(row, &over_tls, code, count);
        end
    }

    /// The answer is taken as the whole file, at once.
    pub(crate) fn is_whole(&self, row: &'static str, head: &str) {
        let head = head.to_owned();
        self.taken(row, 1, move |_, new| whole(&head, new));
    }

    /// The answer is refused as one that breaks HTTP, and asked for again.
    pub(crate) fn is_broken(&self, row: &'static str, head: &str) {
        let head = head.to_owned();
        self.fails(row, Code::BadResponse, 6, move |_, new| whole(&head, new));
    }

    /// The answer ends the update at once.
    pub(crate) fn is_final(&self, row: &'static str, code: Code, head: &str) {
        let head = head.to_owned();
        self.fails(row, code, 1, move |_, new| whole(&head, new));
    }

    /// The answer to a request for the rest leads to this.
    pub(crate) fn rest(
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
    pub(crate) fn asks(&self, row: &'static str, url: &str, host: &str, path: &str) {
        self.note(row);
        let end = update(url, &[], |request, new| file(request, new, ETAG));
        assert_eq!(end.status.state, UpdateState::Confirmed, "{row}: {url}: {:?}", end.status);
        let request = &end.requests[0];
        assert_eq!((request.header("host"), request.path.as_str()), (Some(host), path), "{row}: {url}");
    }

    /// A command is refused, and nothing asked.
    pub(crate) fn refused(&self, row: &'static str, code: Code, url: &str) {
        self.note(row);
        let end = update(url, HOSTS, |request, new| file(request, new, ETAG));
        assert_eq!(end.status.state, UpdateState::Refused, "{row}: {url}: {:?}", end.status);
        assert_eq!(end.status.error.as_ref().unwrap().code, code, "{row}: {url}: {:?}", end.status);
        assert!(end.requests.is_empty(), "{row}: {url}");
    }

    /// A redirect leads to this host and path.
    pub(crate) fn leads(&self, row: &'static str, location: &str, host: &str, path: &str) {
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
    pub(crate) fn leads_nowhere(&self, row: &'static str, code: Code, text: &str, location: &str) {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
        self.note(row);
        // Over TLS, one that leads out of it is another matter.
        let end = update(URL, &[], move |_, _| raw(&head));
        assert_failed(row, &end, code, 1);
        let detail = end.status.error.unwrap().detail;
        assert!(detail.contains(text) && detail.contains("the server redirects to"), "{row}: {detail}");
    }

    /// Every row of the document's tables under these headings was tried, and no other.
    pub(crate) fn are_all_under(&self, headings: &[&str]) {
        let document = include_str!("../../../../docs/http.md");
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

/// Has a device fetch the file from a server that answers so, in clear and over TLS.
fn in_clear_and_over_tls(handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static) -> [End; 2] {
    let handler = Rc::new(handler);
    let again = Rc::clone(&handler);
    [
        update(URL, &[], move |request, new| handler(request, new)),
        update_over_tls(move |request, new| again(request, new)),
    ]
}

fn assert_failed(row: &str, end: &End, code: Code, count: usize) {
    assert_eq!(end.status.state, UpdateState::Failed, "{row}: {:?}", end.status);
    assert_eq!(end.status.error.as_ref().unwrap().code, code, "{row}: {:?}", end.status);
    assert_eq!(attempts(&end.requests), count, "{row}: {:?}", end.requests);
}

/// Counts requests, of which the one for a file's front, as there is over TLS, and the next for the rest are one.
fn attempts(requests: &[Request]) -> usize {
    let is_divided = |pair: &&[Request]| {
        let [front, rest] = pair else { return false };
        let end =
            front.header("range").and_then(|range| range.strip_prefix("bytes=0-")?.parse::<usize>().ok());
        end.is_some_and(|end| rest.from() == Some(end + 1))
    };
    requests.len() - requests.windows(2).filter(is_divided).count()
}

pub(crate) fn rows() -> Rows {
    Rows { tried: RefCell::default() }
}
