//! Fields.

use super::*;

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
