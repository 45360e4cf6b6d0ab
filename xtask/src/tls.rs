//! `cargo xtask bench tls`: connections over TLS, beside nginx in the same run, and what an idle one costs over MQTTS.
//!
//! Both have the same certificate (EC P-256) and are asked by the same clients, four processes of `openssl s_time` that do whole
//! handshakes of TLS 1.3 one after the other. They take turns. The clients share the machine with them, so the ratio says more than the
//! figures.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::broker::raise_file_limit;
use crate::serve::Server;
use crate::shell::{cargo, find, output, program, root, run, works};

/// Processes that connect.
const CLIENTS: usize = 4;
/// Aim for the part of nginx's connections.
const AIM: f64 = 0.9;
/// Aim for the memory of an idle connection over MQTTS, in KiB.
const AIM_KIB: f64 = 24.0;
/// Most time for a server to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `bench tls`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of times each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections whose memory is measured
    #[arg(long, default_value_t = 2_000)]
    idle: usize,
}

/// Prints what both take, and whether ours keeps to what is aimed at.
pub(crate) fn bench(options: &Options) -> Result<()> {
    for (tool, package) in [("nginx", "nginx-light"), ("openssl", "openssl")] {
        if find(tool).is_none() {
            println!("\nSKIPPED: TLS beside nginx: {tool} is missing; on Debian: apt-get install {package}");
            return Ok(());
        }
    }
    raise_file_limit(2 * options.idle)?;
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
    let folder = root().join("target/bench-tls");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let data = folder.join("data");
    let (https, mqtts) = (free_port()?, free_port()?);
    let at = |port: u16| format!("127.0.0.1:{port}");
    let otaru = root().join("target/release/otaru");
    let options_of_ours = ["--dev", "--tls-dev", "--https", &at(https), "--mqtts-listen", &at(mqtts)];
    let server = Server::start_with(&otaru, &data, &options_of_ours, Stdio::null())?;
    let nginx = Nginx::start(&folder, &data.join("tls/server.pem"))?;
    connections(options, https, nginx.port)?;
    idle(options, &server, mqtts, &data.join("tls/ca.pem"))
}

fn connections(options: &Options, ours: u16, theirs: u16) -> Result<()> {
    println!(
        "\n| round | nginx, connections/s | Otaru, connections/s | Otaru / nginx |\n| --- | --- | --- | --- |"
    );
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let (theirs, ours) = (rate(theirs, options.seconds)?, rate(ours, options.seconds)?);
        println!("| {round} | {theirs:.0} | {ours:.0} | {:.2} |", ours / theirs);
        ratios.push(ours / theirs);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    let verdict = if median >= AIM { "met" } else { "MISSED" };
    println!("\n- connections a second: {median:.2} of nginx's, {verdict} (aim: {AIM})");
    Ok(())
}

/// Connections a second of all clients together.
fn rate(port: u16, seconds: u32) -> Result<f64> {
    let start = || -> Result<Child> {
        let mut command = program("openssl");
        command.args(["s_time", "-new", "-tls1_3", "-connect", &format!("127.0.0.1:{port}")]);
        command.args(["-time", &seconds.to_string()]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start openssl")
    };
    let clients: Vec<Child> = (0..CLIENTS).map(|_| start()).collect::<Result<_>>()?;
    let mut sum = 0.0;
    for client in clients {
        let said = String::from_utf8_lossy(&client.wait_with_output()?.stdout).into_owned();
        sum += counted(&said).with_context(|| format!("openssl says nothing of connections: {said}"))?;
    }
    Ok(sum / f64::from(seconds))
}

/// Reads the number out of `1234 connections in 6 real seconds, …`.
fn counted(said: &str) -> Option<f64> {
    let line =
        said.lines().find(|line| line.contains(" connections in ") && line.contains("real seconds"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn idle(options: &Options, server: &Server, port: u16, authority: &Path) -> Result<()> {
    let resident = || -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", server.running.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let config = client(authority)?;
    // Whatever the first ones cost is not theirs.
    let first: Vec<Idle> =
        (0..64).map(|number| connect(&config, port, &format!("first-{number}"))).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_secs(2));
    let before = resident()?;
    let held: Vec<Idle> = (0..options.idle)
        .map(|number| connect(&config, port, &format!("idle-{number}")))
        .collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_secs(2));
    let each = (resident()? - before) / held.len() as f64;
    drop((first, held));
    let verdict = if each <= AIM_KIB { "met" } else { "MISSED" };
    println!("- an idle connection over MQTTS: {each:.1} KiB, {verdict} (aim: {AIM_KIB})");
    Ok(())
}

type Idle = StreamOwned<ClientConnection, TcpStream>;

fn client(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A client of MQTT 3.1.1 that has logged in, and says nothing more.
fn connect(config: &Arc<ClientConfig>, port: u16, id: &str) -> Result<Idle> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let session = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(session, stream);
    // A clean session, and ten minutes of keep-alive: MQTT 3.1.1, section 3.1.
    let length = |len: usize| u8::try_from(len).context("a long client id");
    let head =
        [&[0x10, length(12 + id.len())?, 0, 4][..], b"MQTT", &[4, 2, 2, 88, 0, length(id.len())?]].concat();
    stream.write_all(&[&head[..], id.as_bytes()].concat())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    ensure!(answer == [0x20, 2, 0, 0], "the broker refuses: {answer:?}");
    Ok(stream)
}

/// nginx, which ends with this.
struct Nginx {
    child: Child,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, not killed: its workers would outlive it.
        if !works(program("kill").arg(self.child.id().to_string())) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// With as many workers as there are cores, records of 4 KiB as ours, and tickets as ours.
    fn start(folder: &Path, pair: &Path) -> Result<Self> {
        let (port, here, pair) = (free_port()?, folder.display(), pair.display());
        let user = if output(program("id").arg("-u")).as_deref() == Some("0") { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes auto; pid {here}/nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; tcp_nodelay on; client_body_temp_path {here}; proxy_temp_path {here};\n\
             fastcgi_temp_path {here}; uwsgi_temp_path {here}; scgi_temp_path {here};\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pair}; ssl_certificate_key {pair};\n\
             ssl_protocols TLSv1.2 TLSv1.3; ssl_buffer_size 4k; ssl_session_tickets on;\n\
             location / {{ return 200 ok; }} }} }}\n"
        );
        fs::write(folder.join("nginx.conf"), config)?;
        let mut command = program(find("nginx").context("nginx is gone")?);
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
        let child = command.stdin(Stdio::null()).spawn().context("cannot start nginx")?;
        let nginx = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(start.elapsed() < PATIENCE, "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_out_of_what_openssl_says() {
        let said = "\n\n1234 connections in 1.02s; 1209.80 connections/user sec, bytes read 0\n1234 connections in 6 real seconds, 0 bytes read per connection\n";
        assert_eq!(counted(said), Some(1234.0));
        assert_eq!(counted("nothing"), None);
    }
}
