//! The server that is attacked, with nginx in front of it where that is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::options::Route;
use super::proxy::Nginx;
use crate::serve::{Server, free_port};
use crate::shell::{program, root};

/// A server that is attacked, and everything that is asked of it.
pub(super) struct Target {
    pub(super) server: Server,
    /// Host that requests go to: the server, or nginx.
    pub(super) host: String,
    /// Prefix of paths there.
    pub(super) prefix: &'static str,
    pub(super) log: PathBuf,
    pub(super) firmware: String,
    _nginx: Option<Nginx>,
}

impl Target {
    /// Starts it.
    pub(super) fn start(way: Route, otaru: &Path) -> Result<Self> {
        let folder = root().join("target/bench-attacks").join(format!("{way:?}").to_lowercase());
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let log = folder.join("log.txt");
        let (people, devices) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{people}/ota");
        let behind = ["--public-url", &url, "--trusted-proxy", "127.0.0.1"];
        let options: &[&str] = if way == Route::Nginx { &behind } else { &[] };
        let server =
            Server::start_with(otaru, &folder.join("data"), options, fs::File::create(&log)?.into())?;
        let own = server.url.trim_start_matches("http://").to_owned();
        let (host, prefix, nginx) = match way {
            Route::Plain => (own, "", None),
            Route::Nginx => {
                let nginx = Nginx::start(&folder, people, devices, &own)?;
                (format!("127.0.0.1:{people}"), "/ota", Some(nginx))
            }
        };
        let file = folder.join("lamp-1.0.0.bin");
        let mut make: Command = program(otaru);
        make.args(["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", "1.0.0"]);
        make.args(["--size", "1M", "-o"]).arg(&file).stdout(std::process::Stdio::null());
        ensure!(make.status()?.success(), "cannot make firmware");
        server.user(&["release", "upload", file.to_str().context("a path that is no text")?])?;
        let digest: String =
            Sha256::digest(fs::read(&file)?).iter().map(|byte| format!("{byte:02x}")).collect();
        let firmware = format!("{prefix}/files/{digest}/lamp.bin");
        Ok(Self { server, host, prefix, log, firmware, _nginx: nginx })
    }
}
