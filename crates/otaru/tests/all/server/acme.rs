//! Certificates from a directory (ACME), by the program as it is used on the Internet. The directory is Pebble, that of Let's Encrypt for tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use otaru_testing::{LIMIT, Program, eventually, free_port, have, program, run};
use tempfile::TempDir;

use crate::common::{otaru, path};

const DOMAIN: &str = "ota.example.com";
const NEW: &str = "the new TLS certificate is in use";

/// A directory, which believes that every name is this machine.
struct Directory {
    pebble: Program,
    _names: Program,
    names_at: String,
    port: u16,
    management: u16,
    dir: TempDir,
}

impl Directory {
    /// Starts one that looks for proof at this port, and whose certificates are good for so many seconds.
    fn start(proof_at: u16, seconds: u64) -> Option<Self> {
        if !have(&["pebble", "pebble-challtestsrv", "curl", "openssl", "mosquitto_sub"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let [port, management, names_at, names_managed] = [(); 4].map(|()| free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let (certificate, key) = (path(dir.path(), "ca.pem"), path(dir.path(), "ca.key"));
        let mut command = program("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        command.args(["-days", "2", "-keyout", &key, "-out", &certificate]);
        run(command).with_code(0);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": at(port), "managementListenAddress": at(management), "certificate": certificate,
            "privateKey": key, "httpPort": 9, "tlsPort": proof_at, "certificateValidityPeriod": seconds,
        }});
        std::fs::write(dir.path().join("pebble.json"), config.to_string()).unwrap();
        let mut names = program("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &at(names_at), "-management", &at(names_managed)]);
        let names = Program::server(names, names_managed);
        let names_at = at(names_at);
        let pebble = Self::pebble(dir.path(), &names_at, port);
        Some(Self { pebble, _names: names, names_at, port, management, dir })
    }

    fn pebble(dir: &Path, names_at: &str, port: u16) -> Program {
        let mut pebble = program("pebble");
        pebble.arg("-config").arg(dir.join("pebble.json")).args(["-dnsserver", names_at]);
        // Of all nonces it refuses some, as others may; what was proven once is proven again.
        pebble.env("PEBBLE_WFE_NONCEREJECT", "5").env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_VA_NOSLEEP", "1");
        Program::server(pebble, port)
    }

    /// Starts it anew, without whatever it knew.
    fn forget_all(self) -> Self {
        let Self { pebble, _names, names_at, port, management, dir } = self;
        drop(pebble);
        let pebble = Self::pebble(dir.path(), &names_at, port);
        Self { pebble, _names, names_at, port, management, dir }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    fn ca(&self) -> String {
        path(self.dir.path(), "ca.pem")
    }

    /// Writes the root of its certificates into a file.
    fn root(&self) -> String {
        let mut command = program("curl");
        command.args(["--silent", "--fail", "--cacert", &self.ca()]);
        command.arg(format!("https://127.0.0.1:{}/roots/0", self.management));
        let file = path(self.dir.path(), "root.pem");
        std::fs::write(&file, run(command).with_code(0).out).unwrap();
        file
    }

    /// Number of orders that were made.
    fn orders(&self) -> usize {
        self.pebble
            .lines()
            .iter()
            .filter(|line| line.contains("There are now") && line.contains("orders"))
            .count()
    }
}

/// A server that gets its certificate there.
struct Served {
    server: Program,
    mqtts: u16,
    http: u16,
    data: TempDir,
}

impl Served {
    fn start(directory: &str, ca: &str, https: u16) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), directory, ca, https)
    }

    fn start_in(data: TempDir, directory: &str, ca: &str, https: u16) -> Self {
        let [mqtts, http, mqtt] = [(); 3].map(|()| free_port());
        let mut command =
            otaru(&["serve", "--acme", DOMAIN, "--acme", "OTA2.example.com", "--acme-email", "a@b.example"]);
        command.args(["--acme-directory", directory, "--acme-ca", ca, "--json"]);
        let listeners =
            [("--https", https), ("--mqtts-listen", mqtts), ("--http", http), ("--mqtt-listen", mqtt)];
        for (option, port) in listeners {
            command.args([option, &format!("127.0.0.1:{port}")]);
        }
        command.arg("--data").arg(data.path());
        let server = Program::start(command);
        server.says("\"listening\"");
        Self { server, mqtts, http, data }
    }

    fn stop(self) -> TempDir {
        self.server.interrupt();
        self.data
    }

    /// Ends it as a loss of power does.
    fn kill(self) -> TempDir {
        drop(self.server);
        self.data
    }

    /// Serial number of the certificate at a port, if it is for a name and its root is trusted.
    fn serial(port: u16, name: &str, root: &str) -> Option<String> {
        let mut command = program("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", name]);
        command.args(["-CAfile", root, "-verify_return_error", "-verify_hostname", name]);
        let ended = run(command);
        let mut shown = Command::new("openssl");
        shown.args(["x509", "-noout", "-serial"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &ended.out).unwrap();
        shown.arg("-in").arg(file.path());
        (ended.code == Some(0)).then(|| run(shown).with_code(0).out)
    }

    /// Whether it is ready, as those see it that come without TLS.
    fn is_ready(&self) -> bool {
        let mut command = program("curl");
        command.args(["--silent", "--fail"]).arg(format!("http://127.0.0.1:{}/readyz", self.http));
        run(command).code == Some(0)
    }
}

/// Folder of the one directory that a server knows, once there is one.
fn folder(data: &Path) -> Option<PathBuf> {
    Some(std::fs::read_dir(data.join("tls/acme")).ok()?.next()?.ok()?.path())
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_is_got_once_for_both_listeners_and_kept_over_a_restart() {
    let https = free_port();
    let Some(directory) = Directory::start(https, 90 * 24 * 3_600) else { return };
    let served = Served::start(&directory.url(), &directory.ca(), https);
    served.server.says("by --acme its terms are agreed to");
    served.server.says(NEW);
    let root = directory.root();
    for name in [DOMAIN, "ota2.example.com"] {
        assert!(Served::serial(https, name, &root).is_some(), "{name}");
    }
    let before = Served::serial(served.mqtts, DOMAIN, &root);
    assert!(before.is_some());
    let folder = folder(served.data.path()).unwrap();
    assert!(!folder.join("pending.json").exists(), "the order is done");
    for file in ["account.json", "certificate.pem", "orders.json", "issued.json"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    // Who offers nothing but the protocol of challenges is shown nothing once they are over.
    let mut probe = program("openssl");
    probe.args([
        "s_client",
        "-alpn",
        "acme-tls/1",
        "-servername",
        DOMAIN,
        "-connect",
        &format!("127.0.0.1:{https}"),
    ]);
    assert_ne!(run(probe).code, Some(0));
    let orders = directory.orders();
    assert!(orders > 0);
    let again = Served::start_in(served.stop(), &directory.url(), &directory.ca(), https);
    assert_eq!(Served::serial(again.mqtts, DOMAIN, &root), before);
    assert!(Served::serial(https, DOMAIN, &root).is_some());
    assert_eq!(directory.orders(), orders, "nothing is ordered again");
}

#[test]
fn a_renewal_ends_no_connection() {
    let https = free_port();
    let Some(directory) = Directory::start(https, 60) else { return };
    let served = Served::start(&directory.url(), &directory.ca(), https);
    served.server.says(NEW);
    let root = directory.root();
    let told: serde_json::Value = serde_json::from_str(&served.server.says("\"listening\"")).unwrap();
    let client = |name: &str| {
        // By lines, also where nobody is at a terminal.
        let mut command = program("stdbuf");
        command.args([
            "--output=L",
            name,
            "-h",
            "127.0.0.1",
            "-p",
            &served.mqtts.to_string(),
            "--cafile",
            &root,
            "--insecure",
        ]);
        command.args(["-u", "x", "-P", told["token"].as_str().unwrap(), "-t", "ESP32/ota/lamp/status", "-d"]);
        command
    };
    let listener = Program::start(client("mosquitto_sub"));
    listener.says("Subscribed");
    let before = Served::serial(served.mqtts, DOMAIN, &root);
    eventually("a renewal, two thirds of a minute later", 2 * LIMIT, || {
        let now = Served::serial(served.mqtts, DOMAIN, &root);
        (now.is_some() && now != before).then_some(())
    });
    assert!(Served::serial(https, DOMAIN, &root).is_some());
    let mut publish = client("mosquitto_pub");
    publish.args(["-m", "heard", "-q", "1"]);
    run(publish).with_code(0);
    listener.says("heard");
    assert_eq!(mode(&folder(served.data.path()).unwrap().join("certificate.pem.previous")), 0o600);
    let connects = listener.lines().iter().filter(|line| line.contains("sending CONNECT")).count();
    assert_eq!(connects, 1, "{:?}", listener.lines());
}

/// A server that was ended after it asked for its certificate, and before it had that.
fn ended_before_its_certificate_came(directory: &Directory, https: u16) -> TempDir {
    for _ in 0..5 {
        let served = Served::start(&directory.url(), &directory.ca(), https);
        let pending = eventually("an order that is proven", LIMIT, || {
            let file = folder(served.data.path())?.join("pending.json");
            file.exists().then_some(file)
        });
        directory.pebble.freeze();
        let data = served.kill();
        directory.pebble.thaw();
        if !pending.with_file_name("certificate.pem").exists() {
            assert_eq!(mode(&pending), 0o600);
            return data;
        }
    }
    panic!("the certificate was always there first");
}

#[test]
fn a_process_that_ends_loses_no_certificate_that_was_issued() {
    let https = free_port();
    let Some(directory) = Directory::start(https, 90 * 24 * 3_600) else { return };
    let data = ended_before_its_certificate_came(&directory, https);
    let orders = directory.orders();
    assert!(orders > 0);
    let served = Served::start_in(data, &directory.url(), &directory.ca(), https);
    served.server.says("taken up again");
    served.server.says(NEW);
    assert!(Served::serial(https, DOMAIN, &directory.root()).is_some());
    assert_eq!(directory.orders(), orders, "nothing is ordered again");
    eventually("the end of the order", LIMIT, || {
        (!folder(served.data.path())?.join("pending.json").exists()).then_some(())
    });
}

#[test]
fn an_account_that_the_directory_has_forgotten_is_put_aside_and_another_made() {
    let https = free_port();
    let Some(directory) = Directory::start(https, 90 * 24 * 3_600) else { return };
    let served = Served::start(&directory.url(), &directory.ca(), https);
    served.server.says(NEW);
    let folder = folder(served.data.path()).unwrap();
    let known = std::fs::read(folder.join("account.json")).unwrap();
    let data = served.stop();
    std::fs::remove_file(folder.join("certificate.pem")).unwrap();
    let directory = directory.forget_all();
    let served = Served::start_in(data, &directory.url(), &directory.ca(), https);
    served.server.says("does not know the account any more: its file is put aside");
    assert_eq!(std::fs::read(folder.join("account.json.previous")).unwrap(), known);
    assert_eq!(mode(&folder.join("account.json.previous")), 0o600);
    let served = Served::start_in(served.stop(), &directory.url(), &directory.ca(), https);
    served.server.says("an account was made at the directory");
    served.server.says(NEW);
    assert!(Served::serial(https, DOMAIN, &directory.root()).is_some());
}

#[test]
fn a_name_that_is_not_proven_is_told_and_tried_four_times_an_hour() {
    let [https, other] = [(); 2].map(|()| free_port());
    let Some(directory) = Directory::start(other, 3_600) else { return };
    let mut served = Served::start(&directory.url(), &directory.ca(), https);
    for _ in 0..3 {
        let line = served.server.says("there is no TLS certificate yet");
        // Either of the two, whichever the directory tells first.
        assert!(line.contains("example.com could not be proven") && line.contains("port 443"), "{line}");
        assert!(served.is_ready(), "everything else goes on");
        assert_eq!(
            Served::serial(https, DOMAIN, &directory.root()),
            None,
            "no other certificate in its place"
        );
        served = Served::start_in(served.stop(), &directory.url(), &directory.ca(), https);
    }
    served.server.says("there is no TLS certificate yet");
    let served = Served::start_in(served.stop(), &directory.url(), &directory.ca(), other);
    served.server.says("4 certificates were ordered within an hour");
    std::thread::sleep(Duration::from_millis(100));
    assert!(served.is_ready());
}

#[test]
fn what_failed_is_tried_again_once_the_port_is_right() {
    let [https, other] = [(); 2].map(|()| free_port());
    let Some(directory) = Directory::start(other, 3_600) else { return };
    let served = Served::start(&directory.url(), &directory.ca(), https);
    served.server.says("there is no TLS certificate yet");
    let served = Served::start_in(served.stop(), &directory.url(), &directory.ca(), other);
    served.server.says(NEW);
    assert!(Served::serial(other, DOMAIN, &directory.root()).is_some());
}

#[test]
fn a_directory_that_is_away_or_talks_nonsense_stops_nothing() {
    let Some(directory) = Directory::start(free_port(), 3_600) else { return };
    let nonsense = format!("https://127.0.0.1:{}/roots/0", directory.management);
    let away = format!("https://127.0.0.1:{}/dir", free_port());
    let other = path(directory.dir.path(), "root.pem");
    directory.root();
    for (url, ca, told) in [
        (away, directory.ca(), "cannot be reached"),
        (nonsense, directory.ca(), "something else than a directory of ACME"),
        (directory.url(), other, "the directory is not trusted"),
    ] {
        let served = Served::start(&url, &ca, free_port());
        let line = served.server.says("there is no TLS certificate yet");
        assert!(line.contains(told), "{line}");
        assert!(served.is_ready());
    }
}

#[test]
fn options_that_do_not_go_together_are_told() {
    let dir = tempfile::tempdir().unwrap();
    for (options, code, told) in [
        (&["--acme", "*.example.com"][..], 2, "a wildcard"),
        (&["--acme", "192.0.2.1"], 2, "not for an address"),
        (&["--acme", "a b"], 2, "letters, digits and hyphens"),
        (&["--acme", "a.example", "--tls-dev"], 2, "--tls-dev"),
        (&["--acme", "a.example", "--tls-cert", "x", "--tls-key", "y"], 2, "--tls-cert"),
        (&["--acme-email", "a@b.example"], 2, "--acme <DOMAIN>"),
        (&["--acme", "a.example", "--acme-directory", "http://ca.example/dir"], 1, "https://HOST"),
        (&["--acme", "a.example", "--acme-email", "nobody"], 1, "you@example.com"),
    ] {
        let mut command = otaru(&["serve", "--data", &path(dir.path(), "data")]);
        command.args(options);
        run(command).with_code(code).tells(told);
    }
    let mut command = otaru(&["serve", "--data", &path(dir.path(), "data")]);
    for number in 0..25 {
        command.args(["--acme", &format!("a{number}.example")]);
    }
    run(command).with_code(1).tells("24 domains at most");
}
