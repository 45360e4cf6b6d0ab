//! The samples for nginx and HAProxy before several servers: who gets a request when one of those is not ready, silent or gone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use otaru_testing::{eventually, free_port, have, program, run};
use ureq::Agent;

use crate::common::otaru;
use crate::server::fleet::LONG;
use crate::server::proxies::{self, Proxy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Works,
    /// Answers everything with 503, as a server that has lost its database.
    Unready,
    /// Is not ready, and answers what it is asked all the same, but for files.
    Limps,
    /// Is ready, and has no file.
    NoFiles,
    /// Takes connections and says nothing, as a server that stands still.
    Silent,
}

/// What a balancer takes for a server. It says how it was asked.
struct Server {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    /// Methods and paths, but for questions whether it is ready.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts one. Its threads end with the test.
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, asked) = (Arc::new(Mutex::new(Mood::Works)), Arc::default());
        let server = Self { port, mood: Arc::clone(&mood), asked: Arc::clone(&asked) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, asked) = (Arc::clone(&mood), Arc::clone(&asked));
                // Who goes away ends it.
                std::thread::spawn(move || answer(stream, &mood, &asked).ok());
            }
        });
        server
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(mut stream: TcpStream, mood: &Mutex<Mood>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        let named = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        let values = head.iter().filter(named).map(|line| &line[name.len() + 2..]);
        values.collect::<Vec<_>>().join("|")
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = head.first().cloned().unwrap_or_default();
    if !request.contains("/readyz") {
        asked.lock().unwrap().push(format!("{request} {}", header("idempotency-key")));
    }
    let mood = *mood.lock().unwrap();
    if mood == Mood::Silent {
        return stream.read_exact(&mut [0]);
    }
    let works = match mood {
        Mood::Works => true,
        Mood::Limps => !request.contains("/readyz") && !request.contains("/files/"),
        Mood::NoFiles => !request.contains("/files/"),
        Mood::Unready | Mood::Silent => false,
    };
    let status = if works { "200 OK" } else { "503 Service Unavailable" };
    let said =
        format!(r#"{{"for": "{}", "proto": "{}"}}"#, header("x-forwarded-for"), header("x-forwarded-proto"));
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", said.len());
    stream.write_all((head + &said).as_bytes())
}

/// A front with its sample, before three servers at these ports. It is less patient than the sample.
struct Front {
    people: u16,
    devices: u16,
    _running: Proxy,
}

impl Front {
    fn start(sample: &str, servers: [u16; 3]) -> Self {
        let (people, devices) = (free_port(), free_port());
        let mut text = proxies::text_of(sample);
        for (number, port) in (1..).zip(servers) {
            text = text.replace(&format!("ota-{number}:8080"), &format!("127.0.0.1:{port}"));
        }
        let running = if sample == "haproxy.cfg" {
            for (theirs, ours) in [
                (":443 ssl crt /etc/haproxy/otaru.pem alpn h2,http/1.1", format!("127.0.0.1:{people}")),
                (":80\n", format!("127.0.0.1:{devices}\n")),
                ("server 5s if", "server 1s if".to_owned()),
            ] {
                text = replaced(&text, theirs, &ours);
            }
            let mqtts = text.find("# TLS in front of a broker").unwrap();
            Proxy::haproxy(&text[..mqtts], people)
        } else {
            for (theirs, ours) in [
                ("listen 443 ssl;", format!("listen 127.0.0.1:{people};")),
                ("listen 80;", format!("listen 127.0.0.1:{devices};")),
                ("proxy_read_timeout 20s;", "proxy_read_timeout 1s;".to_owned()),
                ("fail_timeout=10s", "fail_timeout=3s".to_owned()),
            ] {
                text = replaced(&text, theirs, &ours);
            }
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("ssl_"));
            Proxy::nginx(&lines.collect::<Vec<_>>().join("\n"), people)
        };
        Self { people, devices, _running: running }
    }

    /// Sends requests, and returns how they were answered.
    fn ask(&self, method: &str, times: usize) -> Vec<u16> {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(LONG)).build();
        let agent = Agent::new_with_config(config);
        let url = format!("http://127.0.0.1:{}/devices", self.people);
        let ask = |_| match method {
            "GET" => agent.get(&url).call().unwrap().status().as_u16(),
            _ => agent.post(&url).send("{}").unwrap().status().as_u16(),
        };
        (0..times).map(ask).collect()
    }
}

/// The text with a part replaced that it has to have.
#[track_caller]
fn replaced(text: &str, theirs: &str, ours: &str) -> String {
    assert!(text.contains(theirs), "the sample has no {theirs:?}");
    text.replace(theirs, ours)
}

/// What both samples do.
#[track_caller]
fn is_a_front(sample: &str) {
    let servers = [Server::start(), Server::start(), Server::start()];
    let front = Front::start(sample, [0, 1, 2].map(|number: usize| servers[number].port));
    assert_eq!(front.ask("GET", 9), [200; 9]);
    assert_eq!(front.ask("POST", 9), [200; 9]);
    assert!(servers.iter().all(|server| server.asked() > 0), "each has its part");

    // What a stranger claims to be is not passed on.
    let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).build();
    let agent = Agent::new_with_config(config);
    let claim = |port: u16, path: &str| {
        let request = agent.get(format!("http://127.0.0.1:{port}{path}"));
        request.header("x-forwarded-for", "192.0.2.1").header("x-forwarded-proto", "gopher").call().unwrap()
    };
    let told = |port: u16, path: &str| claim(port, path).into_body().read_to_string().unwrap();
    assert!(
        told(front.people, "/").starts_with(r#"{"for": "127.0.0.1", "proto": "http"#),
        "{}",
        told(front.people, "/")
    );
    for path in ["/files/ab/lamp.bin", "/api/v1/claim", "/api/v1/devices/lamp/status"] {
        assert_eq!(told(front.devices, path), r#"{"for": "127.0.0.1", "proto": "http"}"#, "{path}");
    }
    for path in ["/devices", "/api/v1/devices", "/api/v1/claims"] {
        let sent = claim(front.devices, path);
        assert_eq!(sent.status(), 301, "{path}");
        assert!(sent.headers()["location"].to_str().unwrap().starts_with("https://"), "{path}");
    }

    // What is wrong with one file is no reason to leave servers out.
    servers.iter().for_each(|server| server.is(Mood::NoFiles));
    let file = || claim(front.devices, "/files/ab/lamp.bin").status().as_u16();
    assert_eq!([file(), file(), file(), file(), file(), file()], [503; 6]);
    assert_eq!(front.ask("GET", 9), [200; 9]);
    servers.iter().for_each(|server| server.is(Mood::Works));

    servers[1].is(Mood::Silent);
    let before = servers[1].asked();
    assert_eq!(front.ask("GET", 9), [200; 9], "one of three says nothing");
    assert!(servers[1].asked() > before, "it was asked");
    servers[1].is(Mood::Works);
    eventually("it to be asked again", LONG, || {
        let before = servers[1].asked();
        front.ask("GET", 6);
        (servers[1].asked() > before).then_some(())
    });

    // One that is gone costs nobody anything.
    let front = Front::start(sample, [servers[0].port, free_port(), servers[2].port]);
    assert_eq!(front.ask("POST", 9), [200; 9]);
    assert_eq!(front.ask("GET", 9), [200; 9]);
}

#[test]
fn the_sample_for_nginx_passes_a_server_by_that_does_not_do() {
    if have(&["nginx"]) {
        is_a_front("nginx-servers.conf");
    }
}

#[test]
fn the_sample_for_haproxy_passes_a_server_by_that_does_not_do() {
    if have(&["haproxy"]) {
        is_a_front("haproxy.cfg");
    }
}

#[test]
fn haproxy_gives_nothing_to_a_server_that_says_it_is_not_ready() {
    if !have(&["haproxy"]) {
        return;
    }
    let servers = [Server::start(), Server::start(), Server::start()];
    let front = Front::start("haproxy.cfg", [0, 1, 2].map(|number: usize| servers[number].port));
    for mood in [Mood::Unready, Mood::Silent] {
        servers[1].is(mood);
        assert_eq!(front.ask("GET", 9), [200; 9], "{mood:?}");
        eventually("it to be left out", LONG, || {
            std::thread::sleep(Duration::from_millis(500));
            let before = servers[1].asked();
            front.ask("GET", 6);
            (servers[1].asked() == before).then_some(())
        });
        assert_eq!(front.ask("POST", 12), [200; 12], "{mood:?}");
    }
    // Where none is ready, those that are alive do what they can.
    servers.iter().for_each(|server| server.is(Mood::Limps));
    eventually("them to be asked all the same", LONG, || {
        std::thread::sleep(Duration::from_millis(500));
        (front.ask("GET", 6) == [200; 6]).then_some(())
    });
    assert_eq!(front.ask("POST", 6), [200; 6]);
}

#[test]
fn haproxy_takes_the_sample_as_it_is() {
    if !have(&["haproxy", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut openssl = program("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ota.example.com"]);
    openssl.args(["-keyout", &path("key"), "-out", &path("certificate")]);
    run(openssl).with_code(0);
    let both = std::fs::read_to_string(path("certificate")).unwrap()
        + &std::fs::read_to_string(path("key")).unwrap();
    std::fs::write(path("otaru.pem"), both).unwrap();
    let text = replaced(&proxies::text_of("haproxy.cfg"), "/etc/haproxy/otaru.pem", &path("otaru.pem"));
    // Hosts of the sample are no hosts here.
    let text = replaced(&replaced(&text, "ota-", "127.0.0."), "broker:1883", "127.0.0.1:1883");
    std::fs::write(path("haproxy.cfg"), text).unwrap();
    let mut haproxy = program("haproxy");
    haproxy.args(["-c", "-f", &path("haproxy.cfg")]);
    let ended = run(haproxy).with_code(0);
    assert!(!format!("{}{}", ended.out, ended.err).contains("WARNING"), "{}{}", ended.out, ended.err);
}

#[test]
fn a_command_that_a_balancer_answers_with_503_is_sent_again() {
    let server = Server::start();
    let mut command =
        otaru(&["rollout", "pause", "1", "--server", &format!("http://127.0.0.1:{}", server.port)]);
    command.env("OTARU_TOKEN", "x");
    server.is(Mood::Unready);
    let ended = run(command).with_code(1);
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4, "{asked:?} {}", ended.err);
    assert!(asked[0].starts_with("POST ") && asked[0].split_whitespace().count() == 4, "{asked:?}");
    assert!(asked.iter().all(|again| *again == asked[0]), "with the same key: {asked:?}");
}
