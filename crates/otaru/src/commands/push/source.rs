//! Source of a push: a URL as it is, or a local file that is checked and served.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use otaru_format::chip::Chip;
use otaru_format::command::{Command, MAX_COMMAND, Offer};
use otaru_format::digest::Digest;
use tempfile::TempDir;

use super::args::Args;
use crate::firmware_file::Firmware;
use crate::hosting::files::{Answered, HttpFiles};
use crate::hosting::served::Kinds;
use crate::hosting::{FileHost, OutsideFiles};
use crate::virtual_board::address_towards;
use crate::{release_file, ui};
use otaru_broker::client::BrokerUrl;

/// Firmware that devices can fetch.
pub(crate) struct Source {
    /// URL of the firmware.
    pub(crate) url: String,
    /// Digest, where known.
    pub(crate) image: Option<Digest>,
    /// The file, if it is a local one.
    pub(crate) file: Option<Local>,
    /// Whether only this machine reaches the URL.
    pub(crate) loopback: bool,
    /// Serves the file as long as this lives.
    pub(crate) server: Option<(HttpFiles, TempDir)>,
}

/// A local file: an image, or a release of one.
pub(crate) struct Local {
    name: String,
    bytes: Vec<u8>,
    image: Digest,
    /// A sentence about it.
    pub(crate) about: String,
    /// Why it may not be what was meant.
    pub(crate) doubt: Option<&'static str>,
    /// Words for what was kept of the file beside the image, and what was left out.
    pub(crate) remarks: Vec<String>,
}

impl Local {
    fn read(path: &Path, force: bool) -> anyhow::Result<Self> {
        let name =
            path.file_name().map_or_else(|| "firmware".into(), |name| name.to_string_lossy().into_owned());
        let mut start = [0; 12];
        let is_release = std::fs::File::open(path)
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start))
            .is_ok_and(|()| otaru_release::file::is_release(&start));
        if is_release { Self::release(path, name) } else { Self::image(path, name, force) }
    }

    fn release(path: &Path, name: String) -> anyhow::Result<Self> {
        let bytes = release_file::read(path)?;
        let verified = otaru_release::verify::verify_contents(&bytes)
            .with_context(|| format!("{} is no good release", path.display()))?;
        let manifest = verified.file.manifest;
        let signed = match verified.file.envelope.key_id() {
            Some(id) => format!("signed with {id}"),
            None => "unsigned".into(),
        };
        let chip = Chip::from_id(manifest.chip_id).map_or("an unknown chip", Chip::name);
        let (product, version, size) = (manifest.product, manifest.version, ui::size(manifest.size.into()));
        let about =
            format!("{product} {version} for {chip}, {size}, release {}, {signed}", manifest.sequence);
        let image = manifest.image;
        Ok(Self { name, image, about, doubt: None, remarks: Vec::new(), bytes })
    }

    fn image(path: &Path, name: String, force: bool) -> anyhow::Result<Self> {
        let firmware = Firmware::read(path)?;
        if let Some(why) = firmware.nameless().filter(|_| !force) {
            bail!(
                "{}: {why}; devices refuse it, unless --force is given and they take unsigned firmware",
                path.display()
            );
        }
        let about = firmware.about.as_ref();
        let what = about.map_or("firmware".into(), |about| format!("{} {}", about.project, about.version));
        let size = ui::size(firmware.summary.len.into());
        Ok(Self {
            name,
            image: firmware.summary.digest,
            about: format!("{what} for {}, {size}", firmware.chip_name()),
            doubt: firmware.nameless(),
            remarks: firmware.remarks(),
            bytes: firmware.kept().to_vec(),
        })
    }
}

/// Makes the argument fetchable.
pub(crate) async fn prepare(args: &Args, broker: &BrokerUrl) -> anyhow::Result<Source> {
    if args.firmware.contains("://") {
        let image = args.image;
        return Ok(Source { url: args.firmware.clone(), image, file: None, loopback: false, server: None });
    }
    let path = PathBuf::from(&args.firmware);
    let file = Local::read(&path, args.force).context("not pushed")?;
    if let Some(wanted) = args.image.filter(|wanted| *wanted != file.image) {
        bail!("--image says {wanted}, but {} is {}", path.display(), file.image);
    }
    let image = Some(file.image);
    if let (Some(dir), Some(url)) = (&args.host_dir, &args.host_url) {
        let outside = OutsideFiles { dir: dir.clone(), url: url.clone() };
        let url = put(&outside, &file, dir)?;
        return Ok(Source { url, image, file: Some(file), loopback: false, server: None });
    }
    if args.retain {
        bail!(
            "--retain leaves the command behind, but a FILE is served only while this command runs; \
               push a URL, or give --host-dir and --host-url"
        );
    }
    let (server, dir, loopback) = serve(args, broker).await?;
    let url = put(&server, &file, dir.path())?;
    Ok(Source { url, image, file: Some(file), loopback, server: Some((server, dir)) })
}

fn put(host: &dyn FileHost, file: &Local, dir: &Path) -> anyhow::Result<String> {
    host.put(&file.name, &file.bytes).with_context(|| format!("cannot write to {}", dir.display()))
}

async fn serve(args: &Args, broker: &BrokerUrl) -> anyhow::Result<(HttpFiles, TempDir, bool)> {
    let (listen, advertise) = addresses(args, broker).await?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let quiet = Arc::new(|answered: Answered| {
        let Answered { peer, method, path, status, .. } = answered;
        log::info!("{} {method} {path} {}", peer.ip(), status.as_u16());
    });
    let server = HttpFiles::start(listen, dir.path(), Kinds::All, quiet)
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

/// Chooses the address to listen at, and the one that devices are told.
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
        Offer { url: &source.url, image: source.image, deployment: Some(deployment), force, order: None };
    let mut buf = [0; MAX_COMMAND];
    let Some(json) = offer.emit_json(&mut buf) else { bail!("the command is too long: shorten the URL") };
    let mut scratch = [0; MAX_COMMAND];
    Command::parse(json.as_bytes(), &mut scratch)
        .with_context(|| format!("cannot push {}", ui::without_login(&source.url)))?;
    Ok(json.to_owned())
}
