//! Servers that the device speaks TLS to, with records of 4 KiB at most: Mosquitto's listeners, nginx, and `otaru serve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use super::certificates::{Pair, pair};
use super::images::{DEVICE_CA, LOGIN, SERVER, STRANGER};
use crate::emulate::machine;
use crate::emulate::peers::{self, free_port};
use crate::serve::Server;
use crate::shell::{find, output, program, root, run};

/// Path at nginx that redirects to a long URL.
pub(super) const LONG: &str = "long";
/// Bytes of the URL that [`LONG`] leads to.
const LONG_URL: usize = 1_800;

/// Versions of TLS; by itself an nginx before 1.27.3 speaks no 1.3.
const BOTH: &str = "ssl_protocols TLSv1.2 TLSv1.3;";

/// Ports of Mosquitto's listeners over TLS.
pub(super) struct Listeners {
    pub(super) password: u16,
    pub(super) certificate: u16,
}

impl Listeners {
    pub(super) fn choose() -> Result<Self> {
        Ok(Self { password: free_port()?, certificate: free_port()? })
    }

    /// Writes the file with the password, and returns what Mosquitto's configuration says of them.
    pub(super) fn configure(&self, folder: &Path) -> Result<String> {
        let (user, password) = LOGIN;
        let passwords = folder.join("passwords");
        let tool = find("mosquitto_passwd").context("no mosquitto_passwd, which comes with Mosquitto")?;
        run(program(tool).args(["-c", "-b"]).arg(&passwords).args([user, password]))?;
        let Pair { certificate, key } = pair(folder, SERVER);
        let pair = format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display());
        Ok(format!(
            "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\n{pair}\
             listener {} 127.0.0.1\nallow_anonymous false\nrequire_certificate true\nuse_identity_as_username true\n\
             cafile {}\n{pair}",
            self.password,
            passwords.display(),
            self.certificate,
            folder.join(DEVICE_CA).display()
        ))
    }
}

/// nginx, in one process, which ends with this.
pub(super) struct Nginx {
    child: Child,
    log: PathBuf,
    /// Port with TLS 1.2 only.
    pub(super) old: u16,
    /// Port with the certificate of an authority that nobody trusts.
    pub(super) stranger: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Starts it at `port`, with TLS 1.2 and 1.3; `relay` is the port by which the device comes to it, and `file` what the long URL names.
    pub(super) fn start(folder: &Path, port: u16, relay: u16, file: &str) -> Result<Self> {
        let (old, stranger) = (free_port()?, free_port()?);
        let (here, log) = (folder.display(), folder.join("nginx-access.log"));
        let _ = fs::remove_file(&log);
        let user = if output(program("id").arg("-u")).as_deref() == Some("0") { "user root;" } else { "" };
        let server = |port: u16, name: &str, more: &str| {
            let Pair { certificate, key } = pair(folder, name);
            let (certificate, key) = (certificate.display(), key.display());
            format!(
                "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
                 ssl_buffer_size 4k; root {here}/www; {more} }}\n"
            )
        };
        let long = long_url(relay, file);
        let servers = [
            server(port, SERVER, &format!("{BOTH} location = /{LONG} {{ return 302 {long}; }}")),
            server(old, SERVER, "ssl_protocols TLSv1.2;"),
            server(stranger, STRANGER, BOTH),
        ];
        let config = format!(
            "{user} daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/nginx.log warn;\n\
             events {{ worker_connections 64; }}\n\
             http {{ log_format answers '{}'; access_log {} answers; client_body_temp_path {here}; proxy_temp_path {here};\n\
             fastcgi_temp_path {here}; uwsgi_temp_path {here}; scgi_temp_path {here};\n{} }}\n",
            Answer::FORMAT,
            log.display(),
            servers.concat()
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = program(find("nginx").context("nginx is gone")?);
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().context("cannot start nginx")?;
        let nginx = Self { child, log, old, stranger };
        peers::listening(port)?;
        Ok(nginx)
    }

    /// Answers so far.
    pub(super) fn answers(&self) -> Result<Vec<Answer>> {
        let log = fs::read_to_string(&self.log)?;
        log.lines().map(|line| Answer::read(line).with_context(|| format!("nginx logs {line}"))).collect()
    }
}

/// Answer of nginx, as its log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Version of TLS, such as `TLSv1.3`.
    pub(super) protocol: String,
    pub(super) status: u16,
    /// Bytes of the body that were sent.
    pub(super) bytes: usize,
}

impl Answer {
    const FORMAT: &str = "$ssl_protocol $status $body_bytes_sent";

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (protocol, status, bytes) = (words.next()?.to_owned(), words.next()?, words.next()?);
        Some(Self { protocol, status: status.parse().ok()?, bytes: bytes.parse().ok()? })
    }
}

/// URL of 1,800 characters, as signed links have.
fn long_url(port: u16, file: &str) -> String {
    let url = format!("https://{}:{port}/{file}?signature=", machine::HOST);
    let rest = LONG_URL.saturating_sub(url.len());
    url + &"0123456789abcdef".repeat(LONG_URL / 16 + 1)[..rest]
}

/// `otaru serve` with the scenes' certificate.
pub(super) struct Fleet {
    _server: Server,
    pub(super) port: u16,
    /// Path of the file that was uploaded.
    pub(super) path: String,
}

impl Fleet {
    /// Starts it, and uploads a release file.
    pub(super) fn start(folder: &Path, file: &str) -> Result<Self> {
        let (port, data) = (free_port()?, folder.join("fleet"));
        let _ = fs::remove_dir_all(&data);
        let Pair { certificate, key } = pair(folder, SERVER);
        let https = format!("127.0.0.1:{port}");
        let url = format!("https://{}:{port}", machine::HOST);
        let mqtts = format!("127.0.0.1:{}", free_port()?);
        let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
        let options = [
            ["--tls-cert", &certificate],
            ["--tls-key", &key],
            ["--https", &https],
            ["--mqtts-listen", &mqtts],
            ["--public-url", &url],
        ];
        let log = fs::File::create(folder.join("fleet.log"))?;
        let otaru = root().join("target/debug/otaru");
        let server = Server::start_with(&otaru, &data, options.as_flattened(), log.into())?;
        let release = folder.join(file);
        let bytes = fs::read(&release)?;
        server.user(&["release", "upload", &release.to_string_lossy()])?;
        let path = format!("files/{}/{file}", peers::sha256(&bytes));
        Ok(Self { _server: server, port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_url_is_as_long_as_it_should_be() {
        let url = long_url(8443, "2.1.0.bin");
        assert_eq!(url.len(), LONG_URL);
        assert!(url.starts_with("https://10.0.2.2:8443/2.1.0.bin?signature=0123"), "{url}");
    }

    #[test]
    fn answers_are_read_of_the_log() {
        let answer = Answer { protocol: "TLSv1.2".to_owned(), status: 206, bytes: 4_108 };
        assert_eq!(Answer::read("TLSv1.2 206 4108"), Some(answer));
        assert_eq!(Answer::read("TLSv1.2 206"), None);
    }
}
