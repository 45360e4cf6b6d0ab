//! `otaru files`: a folder over HTTP, as devices fetch it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::hosting::files::{Answered, HttpFiles};
use crate::hosting::served::Kinds;
use crate::output::{Outcome, Output};
use crate::{signals, ui};

const EXAMPLES: &str = "\
Examples:
  otaru files build/                        for this machine only
  otaru files --listen 0.0.0.0:8080 build/

Serves .bin and .otaru files, and with --all every file. Nothing hidden is served, such as .git, and
nothing that a link leads to outside the folder.

Answers ranges, If-Range, ETag and Last-Modified, so that devices resume a download where it broke
off. Any static HTTP server does as well: nginx, Caddy, python3 -m http.server (without resuming).";

/// Serve a folder over HTTP
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address to listen at; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Serve every file that is not hidden, not firmware alone
    #[arg(long)]
    all: bool,
    /// The folder
    dir: PathBuf,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    if !args.dir.is_dir() {
        bail!("{} is not a folder", args.dir.display());
    }
    let kinds = if args.all { Kinds::All } else { Kinds::Firmware };
    let on_answer = Arc::new(move |answered: Answered| tell(&answered, output));
    let mut files = HttpFiles::start(args.listen, &args.dir, kinds, on_answer)
        .await
        .with_context(|| format!("cannot listen at {}; --listen takes another port", args.listen))?;
    let urls: Vec<String> = firmware_in(&args.dir).iter().map(|name| files.url_of(name)).collect();
    if output.json {
        let address = files.address().to_string();
        ui::event(json!({"event": "listening", "address": address, "files": urls}));
    } else {
        ui::line(&format!("{} at http://{}/", args.dir.display(), files.address()));
        urls.iter().for_each(|url| ui::line(&format!("  {url}")));
        if urls.is_empty() {
            ui::line("  no firmware yet; what is put there is served at once");
        }
        ui::line("Ctrl-C ends it.");
    }
    tokio::select! {
        () = signals::stop() => Ok(Outcome::Good),
        why = files.failed() => bail!("the file server ended: {why}"),
    }
}

/// The names of the folder's `.bin` files, in order.
fn firmware_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Kinds::Firmware.has(name))
        .collect();
    names.sort();
    names
}

fn tell(answered: &Answered, output: Output) {
    let Answered { peer, method, path, range, status, length } = answered;
    let path = ui::clean(path);
    if output.json {
        ui::event(json!({
            "event": "request", "peer": peer.to_string(), "method": method.as_str(), "path": path,
            "range": range, "status": status.as_u16(), "length": length,
        }));
        return;
    }
    let mut text = format!("{:<15}  {method:<4} {path}  {}", peer.ip(), status.as_u16());
    if let Some(length) = length {
        text.push_str(&format!("  {}", ui::size(*length)));
    }
    if let Some(range) = range {
        text.push_str(&format!("  ({})", ui::clean(range)));
    }
    ui::line(&text);
}
