//! Only the downloads of a server, for `cargo xtask bench downloads`: puts a file into a store, prints its URL, and serves it until
//! it is stopped.
//!
//! `downloads FOLDER FILE ADDRESS`

use std::path::Path;

use anyhow::{Context as _, Result};
use otaru_server::address::download_path;
use otaru_server::artifacts::{Artifacts, DEFAULT_MEMORY};
use otaru_server::downloads::{self, Downloads};
use otaru_server::http;
use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file, address] = &arguments[..] else {
        anyhow::bail!("usage: downloads FOLDER FILE ADDRESS");
    };
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let artifacts = Artifacts::open(Path::new(folder), DEFAULT_MEMORY)?;
        let digest = artifacts.put(bytes.into()).await?;
        let listener = http::bind(address.parse()?).await?;
        println!("http://{}{}", listener.local_addr()?, download_path(digest, "firmware.bin"));
        let downloads = Downloads::new(artifacts, Counter::default());
        let router = downloads::router::<Downloads>().with_state(downloads);
        http::serve(listener, router, http::Rules::default(), CancellationToken::new()).await;
        Ok(())
    })
}
