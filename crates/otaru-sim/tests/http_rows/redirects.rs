//! Redirects.

use super::*;

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
    let row = "`https://` without TLS, or another scheme";
    rows.leads_nowhere(row, Code::UnsupportedUrl, "https://", "https://secret.example/x");
    rows.leads_nowhere(row, Code::UnsupportedUrl, "not http:// or https://", "ftp://secret.example/x");
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
