//! Firmware of a cluster in a bucket, with a relay before it that can fail.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use super::Cluster;
use super::relay::Relay;
use crate::server::bucket::{Service, credentials};

/// A bucket that servers reach through a relay.
pub(super) struct RelayedBucket {
    _service: Service,
    pub(super) relay: Relay,
}

impl RelayedBucket {
    /// Starts one; skips the test loudly where there is no moto.
    pub(super) fn start() -> Option<Self> {
        let service = Service::start()?;
        let port = service.port;
        let relay = Relay::start(move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok(), is_for_a_file);
        Some(Self { _service: service, relay })
    }

    /// Returns the options of servers that keep firmware there, and nothing of it in memory.
    pub(super) fn options(&self, dir: &Path) -> Vec<String> {
        let endpoint = format!("http://127.0.0.1:{}", self.relay.port);
        let file = credentials(dir);
        let options = [
            "--artifacts",
            "s3://firmware/otaru",
            "--s3-endpoint",
            &endpoint,
            "--s3-credentials",
            &file,
            "--download-memory",
            "0",
        ];
        options.map(str::to_owned).to_vec()
    }
}

/// Tells a request for a file of firmware from a look whether the bucket is there, which asks for an object that is not.
fn is_for_a_file(request: &str) -> bool {
    let line = request.lines().next().unwrap_or_default();
    line.starts_with("GET /firmware/") && !line.contains(&"0".repeat(32)) && !line.contains("otaru-owner")
}

impl Cluster {
    /// Empties the folders of copies, as anybody may at any time: whoever wants a file next asks the bucket.
    pub(super) fn forget_copies(&self) {
        for number in 0..self.servers.len() {
            let copies = self.dir.path().join(format!("data{number}")).join("copies");
            for folder in std::fs::read_dir(copies).into_iter().flatten().flatten() {
                if folder.file_name() == "incoming" {
                    continue;
                }
                for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                    // The server may just have removed it.
                    let _ = std::fs::remove_file(file.path());
                }
            }
        }
    }
}
