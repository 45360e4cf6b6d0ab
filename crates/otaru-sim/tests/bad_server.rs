//! Bad servers and bad ways to them: each ends in the documented error or in success, never in a wrong image,
//! and leaves the agent ready for the next command. A bare image is fetched in clear and over TLS, a release in clear.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

mod authority;

use std::rc::Rc;
use std::time::Duration;

use otaru_format::status::{Code, Status, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::http::{Act, Request, file, head};
use otaru_sim::lab::release::{Key, Recipe};
use otaru_sim::lab::{Lab, Setup, firmware, run};
use otaru_sim::lan::Quality;

use authority::Authority;

const SIZE: usize = 100_000;
const LONG: Duration = Duration::from_secs(24 * 3600);
const ETAG: &str = "\"one\"";

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn lab_with(setup: Setup) -> Lab {
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

/// A file for version 1.1.0 or later, as one kind of device takes it.
type Maker = fn(&str) -> Vec<u8>;

/// A signed release with one raw payload, whose number rises with the version.
fn release(version: &str) -> Vec<u8> {
    let sequence =
        version.bytes().filter(u8::is_ascii_digit).fold(0, |number, digit| number * 10 + u64::from(digit));
    let recipe = Recipe { compressed: false, ..Recipe::new(version, sequence) };
    recipe.make(&image(version)).unwrap()
}

/// Lets a device update from a server that answers so; gives back its last word and the requests. Whatever the
/// server did, the device must then still be able to update from a good one.
fn against(handler: &Handler, setup: Setup, make: Maker) -> (Status<String>, Vec<Request>) {
    let handler = Rc::clone(handler);
    run(async move {
        let lab = lab_with(setup).await;
        let new = make("1.1.0");
        lab.http.handle(move |request| handler(request, &new));
        let end = lab.update(LONG).await.expect("the update must come to an end");
        let requests = lab.http.requests();
        if end.state == UpdateState::Confirmed {
            assert!(lab.flash.contents().unwrap()[0x21_0000..].starts_with(&image("1.1.0")));
        } else {
            assert!(lab.runs("1.0.0"), "a failed update must change nothing: {end:?}");
        }
        lab.serve(&make("1.2.0"));
        lab.command();
        // A report may be repeated meanwhile, such as one of more memory used.
        let again = lab.wait_for(LONG, |status| status.version == "1.2.0" && status.confirmed).await;
        assert!(again.is_some_and(|status| status.version == "1.2.0"), "after {end:?}");
        assert!(lab.runs("1.2.0"));
        (end, requests)
    })
}

type Handler = Rc<dyn Fn(&Request, &[u8]) -> Vec<Act>>;

/// Against a device that takes bare images.
fn against_bare(handler: &Handler) -> (Status<String>, Vec<Request>) {
    against(handler, Setup::default(), image)
}

/// Against a device that takes signed releases only.
fn against_signed(handler: &Handler) -> (Status<String>, Vec<Request>) {
    let mut setup = Setup::default();
    setup.config.allow_unsigned = false;
    setup.config.keys = Box::leak(Box::new([Key(1).public()]));
    against(handler, setup, release)
}

/// Against one that takes bare images, with the server behind TLS.
fn against_bare_over_tls(handler: &Handler) -> (Status<String>, Vec<Request>) {
    let ca = Authority::new("ours");
    let setup = Setup { tls: ca.trusted(), host_tls: Some(ca.host(&["files", "other"])), ..Setup::default() };
    against(handler, setup, image)
}

/// All end on the new image; gives back the requests for the bare one.
fn succeeds(handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static) -> Vec<Request> {
    let handler: Handler = Rc::new(handler);
    let ends = [against_signed(&handler), against_bare_over_tls(&handler), against_bare(&handler)];
    for (end, _) in &ends {
        assert_eq!((end.state, end.version.as_str()), (UpdateState::Confirmed, "1.1.0"), "{end:?}");
    }
    ends.into_iter().next_back().unwrap().1
}

/// All end in this failure; gives back the requests for the bare image.
fn fails(
    state: UpdateState,
    code: Code,
    handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
) -> Vec<Request> {
    fails_saying(state, code, "", handler)
}

/// The same, with this in the detail.
fn fails_saying(
    state: UpdateState,
    code: Code,
    text: &str,
    handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
) -> Vec<Request> {
    let handler: Handler = Rc::new(handler);
    let ends = [against_signed(&handler), against_bare_over_tls(&handler), against_bare(&handler)];
    for (end, _) in &ends {
        assert_failed(end, state, code);
        assert!(end.error.as_ref().is_some_and(|error| error.detail.contains(text)), "{end:?}");
    }
    ends.into_iter().next_back().unwrap().1
}

#[track_caller]
fn assert_failed(end: &Status<String>, state: UpdateState, code: Code) {
    assert_eq!((end.state, end.error.as_ref().map(|error| error.code)), (state, Some(code)), "{end:?}");
}

/// Devices without TLS end in this failure.
fn fails_without_tls(
    state: UpdateState,
    code: Code,
    handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static,
) {
    let handler: Handler = Rc::new(handler);
    for (end, _) in [against_signed(&handler), against_bare(&handler)] {
        assert_failed(&end, state, code);
    }
}

/// A bare image ends in this failure, which there is only for those.
fn fails_bare(state: UpdateState, code: Code, handler: impl Fn(&Request, &[u8]) -> Vec<Act> + 'static) {
    let (end, _) = against_bare(&(Rc::new(handler) as Handler));
    assert_failed(&end, state, code);
}

/// The good answer, of which only the first `len` bytes of the body come.
fn cut(request: &Request, new: &[u8], len: usize, end: Act) -> Vec<Act> {
    let mut acts = file(request, new, ETAG);
    if let Some(Act::Send(body)) = acts.get_mut(1) {
        body.truncate(len);
    }
    acts.push(end);
    acts
}

#[test]
fn truncation_at_each_tenth_is_resumed_without_fetching_twice() {
    for tenth in 1..10 {
        for end in [Act::Reset, Act::Close] {
            let requests = succeeds(move |request, new| match request.number {
                0 => cut(request, new, new.len() * tenth / 10, end.clone()),
                _ => file(request, new, ETAG),
            });
            assert_eq!(requests.len(), 2);
            let from = requests[1].from().unwrap();
            // What was under way when the connection broke is lost with it.
            let sent = SIZE * tenth / 10;
            assert!(from <= sent && from + 9000 >= sent, "{from} of {sent}");
            assert_eq!(requests[1].header("if-range"), Some(ETAG));
            assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
        }
    }
}

#[test]
fn a_cut_in_every_answer_still_gets_there() {
    let requests = succeeds(|request, new| cut(request, new, 17_000, Act::Close));
    assert_eq!(requests.len(), 6);
}

#[test]
fn a_server_without_ranges_is_started_over() {
    let whole = |request: &Request| Request { headers: Vec::new(), ..request.clone() };
    succeeds(move |request, new| match request.number {
        0 => cut(request, new, 60_000, Act::Reset),
        _ => file(&whole(request), new, ETAG),
    });
}

#[test]
fn a_range_that_was_not_asked_for_is_not_taken() {
    // Over TLS a part is asked for at once, and more than that is taken for it.
    fails_without_tls(UpdateState::Failed, Code::BadResponse, |request, new| match request.number {
        0 => cut(request, new, 60_000, Act::Reset),
        _ => {
            let range = format!("bytes 0-{}/{}", new.len() - 1, new.len());
            let length = new.len().to_string();
            let headers = [("Content-Length", length.as_str()), ("Content-Range", &range), ("ETag", ETAG)];
            vec![head(206, &headers), Act::Send(new.to_vec()), Act::Close]
        }
    });
}

#[test]
fn a_length_that_is_too_short_is_continued() {
    succeeds(|request, new| match request.number {
        0 => {
            let length = (new.len() / 2).to_string();
            vec![
                head(200, &[("Content-Length", &length), ("ETag", ETAG)]),
                Act::Send(new[..new.len() / 2].into()),
            ]
        }
        _ => file(request, new, ETAG),
    });
}

#[test]
fn a_file_that_is_too_short_is_told() {
    let requests = fails(UpdateState::Failed, Code::Truncated, |request, new| {
        file(request, &new[..new.len() / 2], ETAG)
    });
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_length_that_is_too_long_does_not_matter_once_the_image_is_whole() {
    succeeds(|_, new| {
        let length = (new.len() + 1000).to_string();
        vec![head(200, &[("Content-Length", &length)]), Act::Send(new.to_vec()), Act::Close]
    });
}

#[test]
fn bytes_after_the_image_do_no_harm() {
    succeeds(|request, new| {
        let mut longer = new.to_vec();
        longer.extend([0xFF; 5000]);
        file(request, &longer, ETAG)
    });
}

/// Another file, which differs only where nobody looks before its end.
fn changed(new: &[u8]) -> Vec<u8> {
    let mut other = new.to_vec();
    other[40_000] ^= 1;
    other
}

#[test]
fn a_file_that_changes_is_fetched_anew() {
    // Both ways a server can treat an If-Range that no longer fits.
    succeeds(|request, new| match request.number {
        0 => cut(request, &changed(new), 60_000, Act::Reset),
        _ => file(request, new, "\"two\""),
    });
    let ignorant = |request: &Request| Request {
        headers: request.headers.iter().filter(|(name, _)| name != "if-range").cloned().collect(),
        ..request.clone()
    };
    succeeds(move |request, new| match request.number {
        0 => cut(request, &changed(new), 60_000, Act::Reset),
        _ => file(&ignorant(request), new, "\"two\""),
    });
}

#[test]
fn a_file_that_keeps_changing_is_given_up() {
    fails(UpdateState::Failed, Code::ContentChanged, |request, new| {
        let mut acts = file(request, new, &format!("\"{}\"", request.number));
        if let Some(Act::Send(body)) = acts.get_mut(1) {
            body.truncate(60_000);
        }
        acts.push(Act::Close);
        acts
    });
}

#[test]
fn silence_is_a_timeout_and_a_stall_a_stall() {
    let requests = fails(UpdateState::Failed, Code::Timeout, |_, _| vec![Act::Stall]);
    assert_eq!(requests.len(), 6);
    let requests = fails(UpdateState::Failed, Code::Stalled, |request, new| match request.number {
        0 => cut(request, new, 20_000, Act::Stall),
        _ => vec![file(request, new, ETAG).remove(0), Act::Stall],
    });
    assert_eq!(requests.len(), 6);
    succeeds(|request, new| match request.number {
        0 => cut(request, new, 20_000, Act::Stall),
        _ => file(request, new, ETAG),
    });
}

#[test]
fn a_slow_drip_is_given_up_and_a_slow_server_is_not() {
    let drip = |request: &Request, new: &[u8], step: usize| {
        let mut acts = file(request, new, ETAG);
        if let Some(Act::Send(bytes)) = acts.pop() {
            acts.push(Act::Drip { bytes, step, pause: Duration::from_secs(1) });
        }
        acts
    };
    fails(UpdateState::Failed, Code::Stalled, move |request, new| drip(request, new, 20));
    succeeds(move |request, new| drip(request, new, 1000));
}

#[test]
fn redirects_are_followed_within_bounds() {
    let to = |location: &str| vec![head(302, &[("Location", location), ("Content-Length", "0")])];
    fails(UpdateState::Failed, Code::TooManyRedirects, move |_, _| to("//files/new.bin"));
    fails_without_tls(UpdateState::Failed, Code::UnsupportedUrl, move |_, _| to("https://files/new.bin"));
    fails(UpdateState::Failed, Code::BadResponse, |_, _| vec![head(302, &[("Content-Length", "0")])]);
    let requests = succeeds(move |request, new| match request.path.as_str() {
        "/new.bin" => to("/a/b?x=1"),
        "/a/b?x=1" => to("c"),
        "/a/c" => to("//other/d"),
        _ => file(request, new, ETAG),
    });
    assert_eq!(requests.last().unwrap().path, "/d");
}

#[test]
fn a_compressed_answer_is_refused() {
    let requests = fails(UpdateState::Failed, Code::Compressed, |_, new| {
        let length = new.len().to_string();
        let headers = [("Content-Length", length.as_str()), ("Content-Encoding", "gzip")];
        vec![head(200, &headers), Act::Send(new.to_vec())]
    });
    assert_eq!(requests.len(), 1);
}

#[test]
fn errors_are_retried_where_that_can_help() {
    let none = [("Content-Length", "0")];
    for status in [401, 403, 404, 410] {
        let requests = fails(UpdateState::Failed, Code::HttpStatus, move |_, _| vec![head(status, &none)]);
        assert_eq!(requests.len(), 1, "{status}");
    }
    for status in [429, 500, 502, 503] {
        let requests = fails(UpdateState::Failed, Code::HttpStatus, move |_, _| vec![head(status, &none)]);
        assert_eq!(requests.len(), 6, "{status}");
    }
    succeeds(move |request, new| match request.number {
        0..4 => vec![head(500, &none)],
        _ => file(request, new, ETAG),
    });
}

#[test]
fn retry_after_is_followed() {
    run(async {
        let lab = lab_with(Setup::default()).await;
        let new = image("1.1.0");
        lab.http.handle(move |request| match request.number {
            0 => vec![head(503, &[("Content-Length", "0"), ("Retry-After", "120")])],
            _ => file(request, &new, ETAG),
        });
        let before = otaru_device::Clock::now(&lab.clock);
        assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Confirmed);
        let took = otaru_device::Clock::now(&lab.clock) - before;
        assert!(took >= Duration::from_secs(120), "{took:?}");
    });
}

#[test]
fn what_is_not_firmware_is_refused() {
    fails(UpdateState::Refused, Code::NotAnImage, |request, _| {
        file(request, b"<!DOCTYPE html><title>Sign in to the hotel's Wi-Fi</title>", ETAG)
    });
    fails_bare(UpdateState::Failed, Code::ImageCorrupt, |request, new| {
        let mut bad = new.to_vec();
        bad[50_000] ^= 1;
        file(request, &bad, ETAG)
    });
}

#[test]
fn a_directory_listing_is_refused_for_what_it_is() {
    // As nginx and Python's web server begin theirs.
    for page in
        ["<html>\r\n<head><title>Index of /</title></head>\r\n", "<!DOCTYPE HTML>\n<html lang=\"en\">\n"]
    {
        fails_saying(UpdateState::Refused, Code::NotAnImage, "directory listing", move |request, _| {
            file(request, page.as_bytes(), ETAG)
        });
    }
}

#[test]
fn an_endless_body_does_no_harm() {
    fails(UpdateState::Refused, Code::NotAnImage, |_, _| vec![head(200, &[]), Act::Endless]);
    // A good image, and then no end: what follows is left out, and not waited for.
    succeeds(|_, new| vec![head(200, &[]), Act::Send(new.to_vec()), Act::Endless]);
}

#[test]
fn chunked_bodies_are_read_and_broken_ones_are_not() {
    let chunked = |new: &[u8], end: &[u8]| {
        let mut body = Vec::new();
        for piece in new.chunks(3000) {
            body.extend(format!("{:x}\r\n", piece.len()).bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(end);
        vec![head(200, &[("Transfer-Encoding", "chunked")]), Act::Send(body), Act::Close]
    };
    succeeds(move |_, new| chunked(new, b"0\r\n\r\n"));
    fails(UpdateState::Failed, Code::BadResponse, move |_, new| chunked(&new[..30_000], b"zz\r\nhello"));
    fails(UpdateState::Failed, Code::Truncated, move |_, new| chunked(&new[..30_000], b"400\r\nhello"));
    succeeds(|_, new| vec![head(200, &[]), Act::Send(new.to_vec()), Act::Close]);
}

#[test]
fn nonsense_in_the_headers_is_an_error() {
    let raw = |text: &str| vec![Act::Send(text.as_bytes().to_vec()), Act::Close];
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        fails(UpdateState::Failed, Code::BadResponse, move |_, _| raw(answer));
    }
    fails(UpdateState::Failed, Code::BadResponse, |_, _| {
        vec![head(200, &[("X-Long", "x".repeat(17_000).as_str())]), Act::Close]
    });
}

#[test]
fn a_server_that_is_not_there_is_told_apart() {
    for (url, code) in
        [("http://files.invalid/new.bin", Code::Dns), ("http://files:81/new.bin", Code::Connect)]
    {
        run(async {
            let lab = lab_with(Setup::default()).await;
            lab.broker.publish("ESP32/ota/update", url, false);
            let end = lab.wait_for(LONG, |status| status.state.is_final()).await.unwrap();
            assert_eq!(end.error.unwrap().code, code);
        });
    }
}

#[test]
fn loss_and_latency_only_cost_time() {
    println!("loss   latency   seconds");
    for loss in [0.0, 0.01, 0.05, 0.2] {
        for latency in [5, 50, 300].map(Duration::from_millis) {
            run(async {
                let quality = Quality { latency, loss, rate: 200_000, ..Quality::HOME };
                let lab = lab_with(Setup { quality, seed: 7, ..Setup::default() }).await;
                lab.serve(&image("1.1.0"));
                let before = otaru_device::Clock::now(&lab.clock);
                assert_eq!(lab.update(LONG).await.unwrap().state, UpdateState::Confirmed);
                let took = otaru_device::Clock::now(&lab.clock) - before;
                println!("{loss:4.2} {:7} ms {:9.2}", latency.as_millis(), took.as_secs_f64());
            });
        }
    }
}

#[test]
fn wifi_that_comes_and_goes_only_costs_time() {
    run(async {
        let quality = Quality { rate: 20_000, ..Quality::HOME };
        let lab = lab_with(Setup { quality, ..Setup::default() }).await;
        lab.serve(&image("1.1.0"));
        let cuts = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                lab.lan.set_reachable(false);
                tokio::time::sleep(Duration::from_secs(20)).await;
                lab.lan.set_reachable(true);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = lab.update(LONG) => assert_eq!(end.unwrap().state, UpdateState::Confirmed),
            () = cuts => {}
        }
        let from: Vec<usize> =
            lab.http.requests()[1..].iter().map(|r| r.from().unwrap_or_default()).collect();
        assert!(
            !from.is_empty() && from[0] > 0 && from.is_sorted(),
            "each goes on where the last ended: {from:?}"
        );
    });
}
