//! What is pushed: a URL as it is, or a local file that is checked and served.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use otaru_format::command::{Command, MAX_COMMAND, Offer};
use otaru_format::digest::Digest;
use tempfile::TempDir;

use super::Args;
use crate::broker_url::BrokerUrl;
use crate::firmware_file::Firmware;
use crate::hosting::files::HttpFiles;
use crate::hosting::{FileHost, OutsideFiles};
use crate::virtual_board::address_towards;

/// Firmware that devices can fetch.
pub(crate) struct Source {
    /// Where from.
    pub(crate) url: String,
    /// Its digest, where known.
    pub(crate) image: Option<Digest>,
    /// The file, if it is a local one.
    pub(crate) firmware: Option<Firmware>,
    /// Whether only this machine reaches the URL.
    pub(crate) loopback: bool,
    /// Serves the file as long as this lives.
    pub(crate) server: Option<(HttpFiles, TempDir)>,
}

/// Makes the argument fetchable.
pub(crate) async fn prepare(args: &Args, broker: &BrokerUrl) -> anyhow::Result<Source> {
    if args.firmware.contains("://") {
        let image = args.image;
        return Ok(Source {
            url: args.firmware.clone(),
            image,
            firmware: None,
            loopback: false,
            server: None,
        });
    }
    let path = PathBuf::from(&args.firmware);
    let firmware = Firmware::read(&path).with_context(|| "not pushed".to_owned())?;
    if let Some(wanted) = args.image.filter(|wanted| *wanted != firmware.summary.digest) {
        bail!("--image says {wanted}, but {} is {}", path.display(), firmware.summary.digest);
    }
    let image = Some(firmware.summary.digest);
    if let (Some(dir), Some(url)) = (&args.host_dir, &args.host_url) {
        let outside = OutsideFiles { dir: dir.clone(), url: url.clone() };
        let url = put(&outside, &firmware, dir)?;
        return Ok(Source { url, image, firmware: Some(firmware), loopback: false, server: None });
    }
    if args.retain {
        bail!(
            "--retain leaves the command behind, but a FILE is served only while this command runs; \
               push a URL, or give --host-dir and --host-url"
        );
    }
    let (server, dir, loopback) = serve(args, broker).await?;
    let url = put(&server, &firmware, dir.path())?;
    Ok(Source { url, image, firmware: Some(firmware), loopback, server: Some((server, dir)) })
}

fn put(host: &dyn FileHost, firmware: &Firmware, dir: &Path) -> anyhow::Result<String> {
    host.put(&firmware.name(), firmware.image()).with_context(|| format!("cannot write to {}", dir.display()))
}

async fn serve(args: &Args, broker: &BrokerUrl) -> anyhow::Result<(HttpFiles, TempDir, bool)> {
    let (listen, advertise) = addresses(args, broker).await?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let quiet = Arc::new(|answered: crate::hosting::files::Answered| {
        let crate::hosting::files::Answered { peer, method, path, status, .. } = answered;
        log::info!("{} {method} {path} {}", peer.ip(), status.as_u16());
    });
    let server = HttpFiles::start(listen, dir.path(), quiet)
        .await
        .with_context(|| format!("cannot serve the file at {listen}; --listen takes another address"))?;
    let loopback = advertise.is_none() && listen.ip().is_loopback();
    let port = server.address().port();
    let server = match advertise {
        Some(host) if has_port(&host) => server.advertised_as(&host),
        Some(host) => server.advertised_as(&format!("{host}:{port}")),
        None => server,
    };
    Ok((server, dir, loopback))
}

/// Where to listen, and as what to be known to devices.
async fn addresses(args: &Args, broker: &BrokerUrl) -> anyhow::Result<(SocketAddr, Option<String>)> {
    if let Some(host) = &args.advertise {
        let port =
            if has_port(host) { host.rsplit(':').next().and_then(|port| port.parse().ok()) } else { Some(0) };
        let port =
            port.context("--advertise: write HOST or HOST:PORT; an IPv6 address goes into brackets")?;
        let any: IpAddr = std::net::Ipv4Addr::UNSPECIFIED.into();
        return Ok((args.listen.unwrap_or((any, port).into()), Some(host.clone())));
    }
    if let Some(listen) = args.listen.filter(|listen| !listen.ip().is_unspecified()) {
        return Ok((listen, None));
    }
    let ours = address_towards(broker).await.with_context(|| {
        format!("cannot tell this machine's address towards {broker}; --advertise HOST says it")
    })?;
    match args.listen {
        Some(any) => {
            let port = any.port();
            if port == 0 {
                bail!("--listen {any} needs a port, or --advertise HOST");
            }
            Ok((any, Some(SocketAddr::new(ours, port).to_string())))
        }
        None => Ok((SocketAddr::new(ours, 0), None)),
    }
}

fn has_port(host: &str) -> bool {
    let after = host.rsplit(']').next().unwrap_or(host);
    after.contains(':')
}

/// The command as devices read it; what they would refuse to read is refused here.
pub(crate) fn command(source: &Source, deployment: &str, force: bool) -> anyhow::Result<String> {
    let offer =
        Offer { url: &source.url, image: source.image, deployment: Some(deployment), force, serial: None };
    let mut buf = [0; MAX_COMMAND];
    let Some(json) = offer.emit_json(&mut buf) else { bail!("the command is too long: shorten the URL") };
    let mut scratch = [0; MAX_COMMAND];
    Command::parse(json.as_bytes(), &mut scratch).with_context(|| format!("cannot push {}", source.url))?;
    Ok(json.to_owned())
}
