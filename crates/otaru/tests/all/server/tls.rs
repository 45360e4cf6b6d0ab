//! TLS of the program: its options, a certificate of its own, signals, and what a scanner says of its listeners.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use otaru_testing::{LIMIT, Running, eventually, have, program, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{otaru, path};

/// A server that speaks TLS with an authority of its own.
struct Served {
    server: Running,
    told: Value,
    dir: TempDir,
}

impl Served {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command =
            otaru(&["serve", "--json", "--https", "127.0.0.1:0", "--mqtts-listen", "127.0.0.1:0"]);
        command
            .args(["--public-url", "https://localhost"])
            .arg("--data")
            .arg(dir.path().join("data"))
            .args(more);
        let server = Running::start(command);
        let told = serde_json::from_str(&server.line("\"listening\"")).unwrap();
        Self { server, told, dir }
    }

    fn address(&self, which: &str) -> &str {
        self.told[which].as_str().unwrap()
    }

    /// Answer that curl gets over HTTPS, trusting this file.
    fn fetch(&self, ca: &Path) -> Option<String> {
        let mut command = program("curl");
        command.args(["--silent", "--fail", "--cacert"]).arg(ca);
        let ended = run(with(command, &format!("https://{}/healthz", self.address("https"))));
        (ended.code == Some(0)).then_some(ended.out)
    }
}

fn with(mut command: Command, last: &str) -> Command {
    command.arg(last);
    command
}

const PLAIN_OFF: [&str; 5] = ["--tls-dev", "--http", "off", "--mqtt-listen", "off"];

#[test]
fn a_scanner_finds_nothing_at_either_listener() {
    if !have(&["sslscan"]) {
        return;
    }
    let served = Served::start(&PLAIN_OFF);
    for which in ["https", "mqtts"] {
        // Its colours say what it thinks; the authority is nobody's but ours, which is no weakness of what is spoken.
        let mut command = program("sslscan");
        command.args(["--no-check-certificate", served.address(which)]);
        let said = run(command).with_code(0).out;
        let is_bad = |line: &&str| line.contains("\x1b[31m") || line.contains("\x1b[33m");
        // That is for servers that speak older versions; 1.3 tells a downgrade by itself (RFC 8446, section 4.1.3). The others are about
        // the scanner.
        let is_known = |line: &&str| {
            ["TLS Fallback SCSV", "OpenSSL version", "Rebuild with"].iter().any(|known| line.contains(known))
        };
        let bad: Vec<&str> = said.lines().filter(is_bad).filter(|line| !is_known(line)).collect();
        assert!(bad.is_empty(), "{which}: {bad:#?}\n{said}");
        for part in ["TLSv1.3", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"] {
            assert!(said.contains(part), "{which}: {said}");
        }
    }
}

#[test]
fn who_trusts_the_servers_own_authority_reaches_it_also_after_a_restart() {
    if !have(&["curl"]) {
        return;
    }
    let served = Served::start(&PLAIN_OFF);
    let ca = served.told["ca"].as_str().unwrap().to_owned();
    assert_eq!(served.fetch(Path::new(&ca)).as_deref(), Some("ok\n"));
    assert_eq!(served.address("url"), "https://localhost");
    let before = std::fs::read(&ca).unwrap();
    let Served { server, dir, .. } = served;
    assert_eq!(server.stop(), Some(0));
    let mut command = otaru(&["serve", "--json", "--https", "127.0.0.1:0", "--mqtts-listen", "127.0.0.1:0"]);
    command.args(PLAIN_OFF).arg("--data").arg(dir.path().join("data"));
    let again = Running::start(command);
    again.line("\"listening\"");
    assert_eq!(std::fs::read(&ca).unwrap(), before);
    assert_eq!(again.stop(), Some(0));
}

#[test]
fn a_hangup_has_the_certificate_read_and_ends_nothing() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (path(dir.path(), "cert.pem"), path(dir.path(), "key.pem"));
    let make = || {
        let mut command = program("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        command.args(["-keyout", &key, "-out", &cert]);
        run(command).with_code(0);
    };
    make();
    let served = Served::start(&["--tls-cert", &cert, "--tls-key", &key]);
    let old = dir.path().join("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    assert!(served.fetch(&old).is_some());
    make();
    assert!(Command::new("kill").args(["-HUP", &served.server.id().to_string()]).status().unwrap().success());
    eventually("the new certificate", LIMIT, || served.fetch(Path::new(&cert)));
    assert!(served.fetch(&old).is_none());
    TcpStream::connect(served.address("http")).expect("the plain listener goes on");
    assert_eq!(served.server.stop(), Some(0));
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = path(dir.path(), "data");
    let missing = path(dir.path(), "missing.pem");
    for (options, told) in [
        (&["--http", "off"][..], "--tls-cert with --tls-key, --acme, or --tls-dev"),
        (&["--hsts"], "need a certificate"),
        (&["--device-ca", "x"], "need a certificate"),
        (&["--tls-cert", &missing, "--tls-key", &missing], "is the path right"),
        (&["--tls-dev", "--device-ca", &missing], "is the path right"),
    ] {
        let mut command = otaru(&["serve", "--data", &data, "--mqtts-listen", "127.0.0.1:0"]);
        if !options.contains(&"off") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        if !told.contains("need") && !told.contains("with") {
            command.args(["--https", "127.0.0.1:0"]);
        }
        command.args(["--mqtt-listen", "127.0.0.1:0"]).args(options);
        run(command).with_code(1).tells(told);
    }
    run(otaru(&["serve", "--tls-cert", "x"])).with_code(2).tells("--tls-key");
}

#[test]
fn certificates_of_devices_are_made_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| path(dir.path(), name);
    let (ca, key, lamp) = (at("ca.pem"), at("ca.key"), at("lamp.pem"));
    run(otaru(&["device-cert", "--make-ca", "--device-ca", &ca, "--device-ca-key", &key])).with_code(0);
    run(otaru(&["device-cert", "--make-ca", "--device-ca", &ca, "--device-ca-key", &key]))
        .with_code(1)
        .tells("--force");
    let sign = ["device-cert", "lamp-7", "--device-ca", &ca, "--device-ca-key", &key, "-o", &lamp];
    run(otaru(&sign)).with_code(0);
    run(otaru(&sign)).with_code(1).tells("--force");
    run(otaru(&["device-cert", "a/b", "--device-ca", &ca, "--device-ca-key", &key, "-o", &at("x")]))
        .with_code(1)
        .tells("called");
    run(otaru(&["device-cert", "a", "--device-ca", &key, "--device-ca-key", &key, "-o", &at("x")]))
        .with_code(1)
        .tells("BEGIN CERTIFICATE");
    use std::os::unix::fs::PermissionsExt as _;
    for private in [&key, &lamp] {
        assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600, "{private}");
    }
    let text = std::fs::read_to_string(&lamp).unwrap();
    assert!(text.contains("BEGIN CERTIFICATE") && text.contains("BEGIN PRIVATE KEY"));
}
