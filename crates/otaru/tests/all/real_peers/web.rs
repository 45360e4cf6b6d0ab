//! Web servers for firmware: Python's, as beginners use it, and nginx.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use otaru_testing::{Program, free_port, program};

use crate::common::otaru;

/// A running web server over a folder.
pub(crate) struct Web {
    port: u16,
    _running: Program,
}

impl Web {
    /// `python3 -m http.server`.
    #[track_caller]
    pub(crate) fn python(folder: &Path) -> Self {
        let mut command = program("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
        let running = Program::start(command);
        let line = running.says("Serving HTTP on ");
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next());
        Self { port: port.unwrap().parse().unwrap(), _running: running }
    }

    /// `otaru files`.
    #[track_caller]
    pub(crate) fn own(folder: &Path) -> Self {
        let port = free_port();
        let mut command = otaru(&["files", "--listen", &format!("127.0.0.1:{port}")]);
        command.arg(folder);
        Self { port, _running: Program::server(command, port) }
    }

    /// nginx in the foreground, as whoever runs the tests, with its files in `own`.
    #[track_caller]
    pub(crate) fn nginx(folder: &Path, own: &Path) -> Self {
        let port = free_port();
        let (root, dir) = (folder.display(), own.display());
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        let settings = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\naccess_log off;\n{paths}\
             server {{ listen 127.0.0.1:{port}; location / {{ root {root}; autoindex on; }} }}\n}}\n"
        );
        let file = own.join("nginx.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = program("nginx");
        command.arg("-p").arg(own).args(["-e", "stderr", "-c"]).arg(file);
        Self { port, _running: Program::server(command, port) }
    }

    /// The URL of a file.
    pub(crate) fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }
}

/// A way to a web server on which the bytes that come from it are counted.
pub(crate) struct Counted {
    port: u16,
    received: Arc<AtomicU64>,
}

impl Counted {
    /// Opens one; it lasts until the test ends.
    pub(crate) fn way_to(web: &Web) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, server) = (listener.local_addr().unwrap().port(), web.port);
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                // What the device does not read shall not count as sent.
                rustix::net::sockopt::set_socket_send_buffer_size(&client, 4096).unwrap();
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || carry(up, server, &AtomicU64::new(0)));
                let count = Arc::clone(&count);
                thread::spawn(move || carry(down, client, &count));
            }
        });
        Self { port, received }
    }

    /// The URL of a file.
    pub(crate) fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }

    /// Bytes so far, headers included.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Carries bytes one way, a few at a time so that not many are on the way in vain, until either side ends.
fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buf = [0; 4096];
    'both: while let Ok(len @ 1..) = io::Read::read(&mut from, &mut buf) {
        let mut rest = &buf[..len];
        // Not `write_all`: the part that came through before an end counts.
        while !rest.is_empty() {
            let Ok(sent @ 1..) = io::Write::write(&mut to, rest) else { break 'both };
            count.fetch_add(sent as u64, Ordering::Relaxed);
            rest = &rest[sent..];
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
