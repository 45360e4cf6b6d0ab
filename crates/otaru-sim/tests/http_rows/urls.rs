//! URLs of commands, and hosts.

use super::*;

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
    for url in [
        "http://user:secret@files/x",
        "HTTPS://user:secret@files/x",
        "http://secret@files/x",
        r#"{"url":"http://u:secret@files/x"}"#,
    ] {
        rows.refused(row, Code::BadCommand, url);
    }
    let row = "an IPv6 address in brackets";
    rows.asks(row, "http://[2001:DB8::1]/x", "[2001:db8::1]", "/x");
    rows.refused(row, Code::BadCommand, "http://[fe80::1%25eth0]/x");
    for host in ["2130706433", "127.1", "0x7f000001", "0177.0.0.1"] {
        let row = "`2130706433`, `127.1`, `0x7f000001`, `0177.0.0.1`";
        rows.refused(row, Code::BadCommand, &format!("http://{host}/x"));
    }
    for url in ["https://files/x", "HTTPS://files:443/x", "ftp://files/x"] {
        rows.refused("`https://` without TLS, or another scheme", Code::UnsupportedUrl, url);
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
