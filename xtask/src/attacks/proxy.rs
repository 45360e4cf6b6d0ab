//! nginx in front of the server, with the sample configuration.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{find, output, program, root, works};

/// Most time for it to start.
const START: Duration = Duration::from_secs(10);

/// It ends with this.
pub(super) struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, not killed: its workers would outlive it.
        if !works(program("kill").arg(self.0.id().to_string())) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Nginx {
    /// Starts it with people at port `people`, devices at port `devices`, and the server at `server`.
    ///
    /// # Errors
    /// Returns an error if nginx does not start.
    pub(super) fn start(folder: &Path, people: u16, devices: u16, server: &str) -> Result<Self> {
        let sample = fs::read_to_string(root().join("packaging/nginx.conf"))?
            .replace("127.0.0.1:8080", server)
            .replace("listen 443 ssl ", &format!("listen 127.0.0.1:{people} "))
            .replace("listen 80 ", &format!("listen 127.0.0.1:{devices} "))
            .replace("/var/cache/", &format!("{}/", folder.display()));
        let sample: String = sample
            .lines()
            .filter(|line| !line.trim_start().starts_with("ssl_"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let here = folder.display();
        let user = if output(program("id").arg("-u")).as_deref() == Some("0") { "user root;" } else { "" };
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {here}/{name};\n"))
            .concat();
        // As the sample says that it should be for many connections.
        let settings = format!(
            "{user}\ndaemon off;\nworker_processes auto;\nworker_rlimit_nofile 20000;\npid {here}/nginx.pid;\n\
             error_log {here}/nginx.log;\nevents {{ worker_connections 16384; }}\n\
             http {{\naccess_log off;\n{folders}{sample}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, settings)?;
        let mut command = program(find("nginx").context("nginx is gone")?);
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(file);
        let nginx = Self(command.stdin(Stdio::null()).spawn().context("cannot start nginx")?);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", people)).is_err() {
            ensure!(start.elapsed() < START, "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}
