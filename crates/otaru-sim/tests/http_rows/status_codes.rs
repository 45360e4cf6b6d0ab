//! Status codes.

use super::*;

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
    rows.fails_without_tls("`206` that was not asked for", Code::BadResponse, 6, |request, new| {
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
