//! Proxies in front of servers: nginx, HAProxy and Caddy, with the sample configurations and with their defaults.

use std::path::Path;

use otaru_testing::{Program, program};
use tempfile::TempDir;

/// A proxy that ends with the test.
pub(crate) struct Proxy {
    _running: Program,
    _dir: TempDir,
}

impl Proxy {
    /// nginx with these `server` blocks, as whoever runs the tests; ready when it listens at `port`.
    #[track_caller]
    pub(crate) fn nginx(servers: &str, port: u16) -> Self {
        let own = tempfile::tempdir().unwrap();
        let dir = own.path().display();
        let servers = servers.replace("/var/cache/", &format!("{dir}/"));
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        let settings = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log stderr;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{paths}{servers}\n}}\n"
        );
        let file = own.path().join("nginx.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = program("nginx");
        command.arg("-p").arg(own.path()).args(["-e", "stderr", "-c"]).arg(file);
        Self { _running: Program::server(command, port), _dir: own }
    }

    /// nginx as whoever takes no trouble sets it up: `/ota/` leads to the server's root, `/held/` does, too, and holds back
    /// whatever the server says of that.
    #[track_caller]
    pub(crate) fn plain_nginx(port: u16, server: u16) -> Self {
        let pass = format!("proxy_pass http://127.0.0.1:{server}/;");
        let held = format!("{pass} proxy_ignore_headers X-Accel-Buffering;");
        let servers = format!(
            "server {{ listen 127.0.0.1:{port};\nlocation /ota/ {{ {pass} }}\nlocation /held/ {{ {held} }}\n}}"
        );
        Self::nginx(&servers, port)
    }

    /// nginx with the sample configuration: people come to `port`, devices to `devices`.
    #[track_caller]
    pub(crate) fn sample_nginx(port: u16, devices: u16, server: u16) -> Self {
        let sample = sample("nginx.conf", server)
            .replace("listen 443 ssl ", &format!("listen 127.0.0.1:{port} "))
            .replace("listen 80 ", &format!("listen 127.0.0.1:{devices} "));
        let lines = sample.lines().filter(|line| !line.trim_start().starts_with("ssl_"));
        Self::nginx(&lines.collect::<Vec<_>>().join("\n"), port)
    }

    /// HAProxy with this configuration; ready when it listens at `port`.
    #[track_caller]
    pub(crate) fn haproxy(config: &str, port: u16) -> Self {
        let own = tempfile::tempdir().unwrap();
        let file = own.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = program("haproxy");
        command.arg("-db").arg("-f").arg(file);
        Self { _running: Program::server(command, port), _dir: own }
    }

    /// Caddy with the sample configuration.
    #[track_caller]
    pub(crate) fn sample_caddy(port: u16, devices: u16, server: u16) -> Self {
        let own = tempfile::tempdir().unwrap();
        let sample = sample("Caddyfile", server)
            .replace("\nhttp://example.com {", &format!("\nhttp://127.0.0.1:{devices} {{"))
            .replace("\nexample.com {", &format!("\nhttp://127.0.0.1:{port} {{"));
        let file = own.path().join("Caddyfile");
        std::fs::write(&file, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{sample}")).unwrap();
        let mut command = program("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command.env("HOME", own.path()).env("XDG_DATA_HOME", own.path()).env("XDG_CONFIG_HOME", own.path());
        Self { _running: Program::server(command, port), _dir: own }
    }
}

/// A sample configuration, with a server at this port.
#[track_caller]
fn sample(name: &str, server: u16) -> String {
    text_of(name).replace("127.0.0.1:8080", &format!("127.0.0.1:{server}"))
}

/// A sample configuration as it is.
#[track_caller]
pub(crate) fn text_of(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name);
    std::fs::read_to_string(file).unwrap()
}
