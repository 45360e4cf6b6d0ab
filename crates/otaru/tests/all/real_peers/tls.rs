//! Updates over TLS as people set it up: Mosquitto with a CA of one's own, by password or by certificate, and nginx.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use otaru_testing::{Program, Running, free_port, have, program, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::common::{firmware, otaru, path, selected};

/// Bytes of the longest link that is redirected to.
const LONG_LINK: usize = 1_800;
/// Bytes after which the first download is cut.
const CUT: usize = 100_000;

/// Proof to Mosquitto of who a client is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Password,
    Certificate,
}

/// A folder with a CA, a broker and a web server of it, and firmware.
struct Scene {
    dir: TempDir,
    login: Login,
    broker: u16,
    web: u16,
    running: Vec<Program>,
}

impl Scene {
    fn start(login: Login) -> Option<Self> {
        if !have(&["mosquitto", "mosquitto_passwd", "nginx"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let (broker, web) = (free_port(), free_port());
        let running = vec![
            Program::server(mosquitto(dir.path(), broker, login), broker),
            Program::server(nginx(dir.path(), web), web),
        ];
        firmware(dir.path(), "1.0.0", "healthy");
        std::fs::rename(firmware(dir.path(), "1.1.0", "healthy"), dir.path().join("www/new.bin")).unwrap();
        Some(Self { dir, login, broker, web, running })
    }

    /// A command that trusts the CA and knows how to log in.
    fn otaru(&self, args: &[&str]) -> Command {
        let mut command = otaru(args);
        let file = |name: &str| path(self.dir.path(), name);
        command.args(["--ca", &file("ca.pem"), "--broker", &format!("mqtts://localhost:{}", self.broker)]);
        match self.login {
            Login::Password => command.args(["--username", "fleet"]).env("OTARU_PASSWORD", "s3cret"),
            Login::Certificate => {
                command.args(["--client-cert", &file("client.pem"), "--client-key", &file("client.key")])
            }
        };
        command
    }

    fn url(&self, port: u16, file: &str) -> String {
        format!("https://localhost:{port}/{file}")
    }

    /// Updates one virtual board from this URL, and looks at its flash.
    #[track_caller]
    fn updates_from(&self, url: &str) {
        let boards = self.dir.path().join("boards");
        let mut command = self.otaru(&["sim", "--speed", "8", "--devices", "1"]);
        command.arg("--dir").arg(&boards).arg("--firmware").arg(self.dir.path().join("lamp-1.0.0.bin"));
        let device = Running::start(command);
        device.line(": idle");
        run(self.otaru(&["push", "--watch", url])).with_code(0);
        let new = std::fs::read(self.dir.path().join("www/new.bin")).unwrap();
        assert_eq!(selected(&boards.join("sim-0001.bin"), new.len()), (1, new));
    }

    /// The lines that nginx wrote of requests.
    fn requests(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap()
    }
}

/// Writes a CA, a server's certificate for this machine and a client's.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "the fleet's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for (file, name) in [("server", "localhost"), ("client", "fleet")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

fn mosquitto(dir: &Path, port: u16, login: Login) -> Command {
    let dir_name = dir.display();
    let mut settings = format!(
        "user root\nlistener {port} 127.0.0.1\ncafile {dir_name}/ca.pem\ncertfile {dir_name}/server.pem\n\
         keyfile {dir_name}/server.key\nallow_anonymous false\n"
    );
    match login {
        Login::Certificate => settings.push_str("require_certificate true\nuse_identity_as_username true\n"),
        Login::Password => {
            let mut command = program("mosquitto_passwd");
            command.args(["-b", "-c"]).arg(dir.join("passwords")).args(["fleet", "s3cret"]);
            run(command).with_code(0);
            settings.push_str(&format!("password_file {dir_name}/passwords\n"));
        }
    }
    std::fs::write(dir.join("mosquitto.conf"), settings).unwrap();
    let mut command = program("mosquitto");
    command.arg("-c").arg(dir.join("mosquitto.conf"));
    command
}

/// nginx over `www`, whose `/away` leads to a link as long as a signed one.
fn nginx(dir: &Path, port: u16) -> Command {
    std::fs::create_dir(dir.join("www")).unwrap();
    let (name, query) = (dir.display(), "x".repeat(LONG_LINK));
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {name}/{kind};\n"))
        .concat();
    let settings = format!(
        "daemon off;\nmaster_process off;\npid {name}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 64; }}\nhttp {{\naccess_log {name}/access.log;\n{paths}\
         server {{\nlisten 127.0.0.1:{port} ssl;\nssl_certificate {name}/server.pem;\n\
         ssl_certificate_key {name}/server.key;\nssl_buffer_size 4k;\nroot {name}/www;\n\
         location = /away {{ return 302 \"https://localhost:{port}/new.bin?{query}\"; }}\n}}\n}}\n"
    );
    std::fs::write(dir.join("nginx.conf"), settings).unwrap();
    let mut command = program("nginx");
    command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]).arg(dir.join("nginx.conf"));
    command
}

/// A way to a port of this machine on which the first connection is cut after [`CUT`] bytes.
fn cut_once(to: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || carry(up, server, usize::MAX));
            let most = if number == 0 { CUT } else { usize::MAX };
            thread::spawn(move || carry(down, client, most));
        }
    });
    port
}

fn carry(mut from: TcpStream, mut to: TcpStream, most: usize) {
    let (mut buf, mut carried) = ([0; 4096], 0);
    while let Ok(len @ 1..) = from.read(&mut buf) {
        carried += len;
        if carried > most || to.write_all(&buf[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

#[test]
fn mosquitto_with_a_login_and_nginx_update_a_device() {
    let Some(scene) = Scene::start(Login::Password) else { return };
    scene.updates_from(&scene.url(scene.web, "new.bin"));
}

#[test]
fn mosquitto_takes_a_certificate_and_a_long_link_is_followed() {
    let Some(scene) = Scene::start(Login::Certificate) else { return };
    scene.updates_from(&scene.url(scene.web, "away"));
    let requests = scene.requests();
    assert!(requests.contains(&format!("/new.bin?{}", "x".repeat(LONG_LINK))), "{requests}");
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let Some(scene) = Scene::start(Login::Password) else { return };
    scene.updates_from(&scene.url(cut_once(scene.web), "new.bin"));
    let requests = scene.requests();
    assert!(requests.contains("\" 206 "), "the rest is asked for, and not all of it again: {requests}");
}

#[test]
fn who_is_not_trusted_is_told_so() {
    let Some(mut scene) = Scene::start(Login::Password) else { return };
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let broker = format!("mqtts://localhost:{}", scene.broker);
    let watch = |more: &[&str]| {
        let mut command = otaru(&["push", "--broker", &broker, "https://localhost/x"]);
        command.args(more);
        run(command).with_code(1).err
    };
    let said = watch(&["--ca", &path(other.path(), "ca.pem")]);
    assert!(said.contains("no CA that is trusted"), "{said}");
    let web = scene.url(scene.web, "");
    let healthy = |url: &str, ca: &str| run(otaru(&["healthy", "--ca", ca, url])).with_code(1).err;
    let said = healthy(&web, &path(other.path(), "ca.pem"));
    assert!(said.contains("no CA that is trusted"), "{said}");
    let (_plain, url) = crate::common::broker(&[]);
    let said = healthy(&url.replace("mqtt://", "https://"), &path(other.path(), "ca.pem"));
    assert!(said.contains("no TLS with"), "{said}");
    let said = watch(&["--ca", "no-such-file"]);
    assert!(said.contains("cannot read the file no-such-file"), "{said}");
    scene.running.clear();
}
