//! `cargo xtask bench downloads`: how fast the server hands out a file, beside nginx in the same run.
//!
//! Both serve one file of 1 MiB over loopback to `wrk` with one thread and sixteen connections that are kept alive: all of it, then
//! 64 KiB out of its middle. They take turns, so that what else the machine does hits both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::shell::{cargo, find, output, program, root, run, works};

const FILE: usize = 1 << 20;
/// The range as a header, and its bytes.
const RANGE: (&str, usize) = ("Range: bytes=65536-131071", 64 << 10);
const CONNECTIONS: &str = "16";
/// Most time for a server to start.
const START: Duration = Duration::from_secs(10);

/// Options of `bench downloads`.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of times both are measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

/// Prints requests a second of both, and what part of nginx's ours are.
pub(crate) fn bench(options: &Options) -> Result<()> {
    for (tool, package) in [("nginx", "nginx-light"), ("wrk", "wrk")] {
        if find(tool).is_none() {
            println!(
                "\nSKIPPED: downloads beside nginx: {tool} is missing; on Debian: apt-get install {package}"
            );
            return Ok(());
        }
    }
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "otaru-server",
        "--example",
        "downloads",
    ]))?;
    let folder = root().join("target/bench-downloads");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("www"))?;
    let file = folder.join("www/firmware.bin");
    fs::write(&file, noise(FILE))?;
    let servers = [nginx(&folder)?, ours(&folder, &file)?];
    println!(
        "\n| request | round | nginx, requests/s | Otaru, requests/s | Otaru / nginx |\n| --- | --- | --- | --- | --- |"
    );
    for (what, header, len) in [("1 MiB", None, FILE), ("64 KiB of it, by Range", Some(RANGE.0), RANGE.1)] {
        for server in &servers {
            server.check(header, len)?;
        }
        let mut ratios = Vec::new();
        for round in 1..=options.rounds {
            let [theirs, ours] = [servers[0].measure(header, options)?, servers[1].measure(header, options)?];
            println!("| {what} | {round} | {theirs:.0} | {ours:.0} | {:.2} |", ours / theirs);
            ratios.push(ours / theirs);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "| {what} | median | | | {:.2} |",
            ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
        );
    }
    Ok(())
}

/// A server that ends with this.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked, not killed: nginx's workers would outlive it.
        if !works(program("kill").arg(self.child.id().to_string())) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// With as many workers as there are cores, and nothing written for a request.
fn nginx(folder: &Path) -> Result<Server> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let here = folder.display();
    let user = if output(program("id").arg("-u")).as_deref() == Some("0") { "user root;" } else { "" };
    let config = format!(
        "{user} daemon off; worker_processes auto; pid {here}/nginx.pid; error_log stderr error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;\n\
         client_body_temp_path {here}; proxy_temp_path {here}; fastcgi_temp_path {here};\n\
         uwsgi_temp_path {here}; scgi_temp_path {here}; open_file_cache max=16;\n\
         server {{ listen 127.0.0.1:{port}; root {here}/www; }} }}\n"
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = program(find("nginx").context("nginx is gone")?);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    let child = command.stdin(Stdio::null()).spawn().context("cannot start nginx")?;
    let server = Server { child, url: format!("http://127.0.0.1:{port}/firmware.bin") };
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(start.elapsed() < START, "nginx does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

fn ours(folder: &Path, file: &Path) -> Result<Server> {
    let mut command = program(root().join("target/release/examples/downloads"));
    command.arg(folder.join("artifacts")).arg(file).arg("127.0.0.1:0");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start ours")?;
    let stdout = child.stdout.take().context("it has no output")?;
    let mut server = Server { child, url: String::new() };
    BufReader::new(stdout).read_line(&mut server.url)?;
    server.url.truncate(server.url.trim_end().len());
    ensure!(server.url.starts_with("http://"), "our server does not start");
    Ok(server)
}

impl Server {
    /// Whether it sends what is asked for: speed means nothing otherwise.
    fn check(&self, header: Option<&str>, len: usize) -> Result<()> {
        let request = ureq::get(&self.url);
        let request = match header.and_then(|header| header.split_once(": ")) {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        let answer = request.call()?.body_mut().with_config().limit(2 * FILE as u64).read_to_vec()?;
        let wanted = if header.is_none() { noise(FILE) } else { noise(FILE)[RANGE.1..2 * RANGE.1].to_vec() };
        ensure!(answer == wanted && wanted.len() == len, "{} sends something else", self.url);
        Ok(())
    }

    /// Requests a second.
    fn measure(&self, header: Option<&str>, options: &Options) -> Result<f64> {
        let mut command = program(find("wrk").context("wrk is gone")?);
        command.args(["-t1", "-c", CONNECTIONS, "-d"]).arg(format!("{}s", options.seconds));
        if let Some(header) = header {
            command.args(["-H", header]);
        }
        let report = output(command.arg(&self.url)).context("wrk failed")?;
        if report.contains("Socket errors") || report.contains("Non-2xx") {
            bail!("{} failed under load:\n{report}", self.url);
        }
        let line = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        Ok(line.context("wrk tells no requests per second")?.trim().parse()?)
    }
}

/// Bytes that nothing can compress, always the same (a linear congruential generator, with Knuth's constants for MMIX).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
