//! Framing of heads and bodies.

use super::*;

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
