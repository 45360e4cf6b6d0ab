//! Web servers for firmware: Python's, as beginners use it, and nginx.

use std::path::Path;

use crate::program::{Program, free_port, program};

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
             server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}\n}}\n"
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
