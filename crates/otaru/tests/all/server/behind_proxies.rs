//! The server behind proxies: the whole site under a path, events that come through or do not, uploads that are refused.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use otaru_testing::{Ended, LIMIT, eventually, free_port, have, run};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use crate::server::fleet::Fleet;
use crate::server::proxies::Proxy;

/// A server whose site is at `http://127.0.0.1:{port}/ota`.
fn under_a_path(port: u16) -> Fleet {
    Fleet::start(&[
        "--dev",
        "--public-url",
        &format!("http://127.0.0.1:{port}/ota"),
        "--trusted-proxy",
        "127.0.0.1",
    ])
}

/// A command of somebody who knows the server by this address.
fn user_at(fleet: &Fleet, url: &str, args: &[&str]) -> Command {
    let mut command = fleet.user(args);
    command.env("OTARU_SERVER", url);
    command
}

/// Somebody with a browser that follows nothing by itself.
struct Visitor {
    agent: Agent,
    origin: String,
    cookie: String,
}

impl Visitor {
    fn at(port: u16) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
        Self { agent: config.into(), origin: format!("http://127.0.0.1:{port}"), cookie: String::new() }
    }

    fn get(&self, path: &str) -> (Response<()>, String) {
        let request = self.agent.get(format!("{}{path}", self.origin));
        split(request.header("cookie", &self.cookie).header("accept", "text/html").call().unwrap())
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> (Response<()>, String) {
        let request = self.agent.post(format!("{}{path}", self.origin));
        let request = request.header("cookie", &self.cookie).header("origin", &self.origin);
        split(request.send_form(form.iter().copied()).unwrap())
    }

    /// Logs in, as a browser that is sent to the login.
    #[track_caller]
    fn log_in(&mut self, token: &str) {
        let (sent, _) = self.get("/ota/devices");
        assert_eq!(sent.headers()["location"], "/ota/login?to=%2Fdevices");
        let (_, page) = self.get("/ota/login?to=%2Fdevices");
        assert!(page.contains("action=\"/ota/login\""), "{page}");
        let (entered, page) = self.post("/ota/login", &[("token", token), ("to", "/devices")]);
        assert_eq!(entered.status(), 303, "{page}");
        assert_eq!(entered.headers()["location"], "/ota/devices");
        let cookie = entered.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("; Path=/ota;"), "{cookie}");
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// Follows every link there is, and fails where one leads out of the path or nowhere.
    #[track_caller]
    fn follow_all(&self) -> BTreeSet<String> {
        let mut known = BTreeSet::from(["/ota/".to_owned()]);
        let mut next: Vec<String> = known.iter().cloned().collect();
        while let Some(path) = next.pop() {
            let (response, text) = self.get(&path);
            assert_eq!(response.status(), 200, "{path}");
            let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            if !kind.unwrap_or_default().starts_with("text/html") {
                continue;
            }
            for (attribute, link) in links(&text) {
                if link.starts_with('#') {
                    continue;
                }
                assert!(link.starts_with("/ota/"), "{attribute}={link} on {path}");
                let link = link.split('#').next().unwrap().replace("&amp;", "&").replace("&#38;", "&");
                if ["href", "src"].contains(&attribute) && known.insert(link.clone()) {
                    next.push(link);
                }
            }
        }
        known
    }
}

fn split(response: Response<ureq::Body>) -> (Response<()>, String) {
    let (parts, mut body) = response.into_parts();
    let text = body.read_to_string().unwrap_or_default();
    (Response::from_parts(parts, ()), text)
}

/// Returns the links of a page.
fn links(page: &str) -> Vec<(&'static str, String)> {
    let of = |attribute: &'static str| {
        let start = format!(" {attribute}=\"");
        let found: Vec<_> =
            page.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        found.into_iter().map(move |link| (attribute, link.to_owned()))
    };
    ["href", "src", "action", "formaction"].into_iter().flat_map(of).collect()
}

/// Goes through all of it: log in, look at everything, upload, roll out and watch.
#[track_caller]
fn is_whole(fleet: &Fleet, port: u16) {
    let url = format!("http://127.0.0.1:{port}/ota");
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware_of("1200K", "1.1.0", "healthy"));
    let _devices = fleet.devices(&old, 3, &[]);
    run(user_at(fleet, &url, &["release", "upload", &old])).with_code(0);
    // Devices fetch it by the address that the server gives them.
    let ended = run(user_at(fleet, &url, &["release", "upload", &new, "--rollout"])).with_code(0);
    assert!(ended.out.contains("completed"), "{}", ended.out);

    let mut visitor = Visitor::at(port);
    visitor.log_in(&fleet.token);
    let known = visitor.follow_all();
    for page in ["/ota/devices/sim-0001", "/ota/releases/1", "/ota/rollouts/1", "/ota/audit", "/ota/keys"] {
        assert!(known.contains(page), "nothing leads to {page}: {known:?}");
    }
    assert!(known.iter().any(|path| path.starts_with("/ota/assets/")), "{known:?}");
    let (changed, page) = visitor.post("/ota/devices/sim-0001/label", &[("label", "Kitchen")]);
    assert_eq!(
        (changed.status().as_u16(), &changed.headers()["location"]),
        (303, &"/ota/devices/sim-0001".parse().unwrap()),
        "{page}"
    );
    let (_, page) = visitor.get("/ota/devices/sim-0001");
    assert!(page.contains("Kitchen"), "{page}");
    let (_, script) = visitor.get("/ota/api/docs/swagger-initializer.js");
    assert!(script.contains("\"/ota/api/v1/openapi.json\""), "{script}");
    let (_, document) = visitor.get("/ota/api/v1/openapi.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["servers"][0]["url"], "/ota");
}

#[test]
fn the_whole_site_under_a_path_behind_nginx() {
    if !have(&["nginx"]) {
        return;
    }
    let (port, devices) = (free_port(), free_port());
    let mut fleet = under_a_path(port);
    let _proxy = Proxy::sample_nginx(port, devices, fleet.http);
    is_whole(&fleet, port);
    // Devices come without TLS; people are sent to where it is.
    let plain = Visitor::at(devices);
    let release: Value = fleet.asks(&["release", "show", "1"]).remove(0);
    let file = format!("/ota/files/{}/lamp.bin", release["image"].as_str().unwrap());
    assert_eq!(plain.agent.head(format!("{}{file}", plain.origin)).call().unwrap().status(), 200);
    let whole = |file: &str| {
        let mut answer = plain.agent.get(format!("{}{file}", plain.origin)).call().unwrap();
        assert_eq!(answer.status(), 200, "{file}");
        answer.body_mut().read_to_vec().unwrap()
    };
    let first = whole(&file);
    assert_eq!(plain.get("/ota/devices").0.headers()["location"], "https://127.0.0.1/ota/devices");
    // nginx has one copy, whole and in parts, whatever it is called.
    fleet.kill();
    assert_eq!(whole(&file), first);
    assert_eq!(whole(&format!("{}?x=1", file.replace("lamp.bin", "other.bin"))), first);
    let part =
        plain.agent.get(format!("{}{file}", plain.origin)).header("Range", "bytes=1-4").call().unwrap();
    assert_eq!((part.status().as_u16(), part.headers()["content-length"].to_str().unwrap()), (206, "4"));
}

#[test]
fn the_whole_site_under_a_path_behind_caddy() {
    if !have(&["caddy"]) {
        return;
    }
    let (port, devices) = (free_port(), free_port());
    let fleet = under_a_path(port);
    let _proxy = Proxy::sample_caddy(port, devices, fleet.http);
    is_whole(&fleet, port);
}

#[test]
fn nginx_with_its_defaults_holds_nothing_up() {
    if !have(&["nginx"]) {
        return;
    }
    let port = free_port();
    let fleet = under_a_path(port);
    let _proxy = Proxy::plain_nginx(port, fleet.http);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let _devices = fleet.devices(&old, 3, &[]);
    fleet.does(&["release", "upload", &new]);

    // An event comes at once, although nothing else follows it.
    let mut events = TcpStream::connect(("127.0.0.1", port)).unwrap();
    events.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let head = format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {}\r\n", fleet.token);
    write!(events, "GET /ota/api/v1/events?kinds=release HTTP/1.1\r\n{head}\r\n").unwrap();
    let mut heard = String::new();
    let mut hear = |text: &str| {
        while !heard.contains(text) {
            let mut bytes = [0; 4096];
            let len = events.read(&mut bytes).unwrap_or_else(|error| panic!("{error}: no {text} in {heard}"));
            assert!(len > 0, "no {text} in {heard}");
            heard.push_str(std::str::from_utf8(&bytes[..len]).unwrap());
        }
    };
    hear("200 OK");
    fleet.does(&["release", "notes", "1", "Dims smoothly."]);
    hear("event: release");

    // Where nothing comes at all, it is looked at all the same.
    for (place, release) in [("ota", "lamp@1.1.0"), ("held", "lamp@1.0.0")] {
        if place == "held" {
            fleet.does(&["release", "upload", &old]);
        }
        let url = format!("http://127.0.0.1:{port}/{place}");
        let ended = run(user_at(&fleet, &url, &["rollout", "create", release, "--watch"])).with_code(0);
        assert!(ended.out.contains("completed"), "{place}: {}", ended.out);
    }
    // A form is taken although the proxy does not say which host was asked.
    let mut visitor = Visitor::at(port);
    visitor.log_in(&fleet.token);
    visitor.follow_all();
}

#[test]
fn who_watches_outlives_a_server_that_restarts() {
    if !have(&["nginx"]) {
        return;
    }
    let port = free_port();
    let mut fleet = under_a_path(port);
    let _proxy = Proxy::plain_nginx(port, fleet.http);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware_of("1900K", "1.1.0", "healthy"));
    let _devices = fleet.devices_at("1", &old, 2, &[]);
    fleet.does(&["release", "upload", &new]);
    let url = format!("http://127.0.0.1:{port}/held");
    let watching =
        otaru_testing::Program::start(user_at(&fleet, &url, &["rollout", "create", "lamp@1.1.0", "--watch"]));
    watching.says("updating");
    fleet.stop();
    // Meanwhile nginx answers 502 in its place.
    std::thread::sleep(Duration::from_secs(4));
    fleet.begin();
    eventually("the end", LIMIT * 2, || {
        watching.lines().iter().any(|line| line.contains("completed")).then_some(())
    });
}

/// Uploads a file of so many bytes, with this token in place of a good one if one is given.
fn uploads(fleet: &Fleet, url: &str, bytes: u64, token: Option<&str>) -> Ended {
    let file = fleet.dir.path().join(format!("{bytes}.bin"));
    std::fs::File::create(&file).unwrap().set_len(bytes).unwrap();
    let mut command = user_at(fleet, url, &["release", "upload", file.to_str().unwrap()]);
    if let Some(token) = token {
        command.env("OTARU_TOKEN", token);
    }
    run(command)
}

#[test]
fn an_upload_that_is_refused_says_why() {
    let port = free_port();
    let fleet = under_a_path(port);
    let wrong = format!("otaru_01234567_{}", "0".repeat(64));
    let direct = format!("http://127.0.0.1:{}", fleet.http);
    for _ in 0..6 {
        uploads(&fleet, &direct, 12 << 20, Some(&wrong)).with_code(1).tells("this token is not known here");
        uploads(&fleet, &direct, 24 << 20, None).with_code(1).tells("larger than the 16777216 bytes");
        // That it is no firmware is known after its first bytes.
        uploads(&fleet, &direct, 12 << 20, None).with_code(1).tells("image");
    }
    // So it is with programs that send without asking first.
    for path in ["/api/v1/releases", "/login", "/releases"] {
        let mut stream = TcpStream::connect(("127.0.0.1", fleet.http)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let len = 12 << 20;
        write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {wrong}\r\nContent-Length: {len}\r\n\r\n")
            .unwrap();
        stream.write_all(&vec![0; len]).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 4"), "{path}: {}", String::from_utf8_lossy(&answer));
    }
    if !have(&["nginx"]) {
        return;
    }
    let _proxy = Proxy::plain_nginx(port, fleet.http);
    let url = format!("http://127.0.0.1:{port}/ota");
    for _ in 0..6 {
        uploads(&fleet, &url, 12 << 20, None).with_code(1).tells("client_max_body_size");
        uploads(&fleet, &url, 900 << 10, Some(&wrong)).with_code(1).tells("this token is not known here");
    }
}
