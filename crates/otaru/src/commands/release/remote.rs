//! Releases on the server.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use otaru_api::Needs;
use serde_json::{Value, json};

use crate::client::answer::{moment, since};
use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::releases::{Yanked, find, title};
use crate::moment::ago;
use crate::output::{Outcome, Output};
use crate::percent::escape;
use crate::rollouts::follow::{Patience, follow};
use crate::rollouts::make::create;
use crate::ui::bar::bar;
use crate::ui::grid::{grid, width};
use crate::ui::live::Live;
use crate::ui::missing::missing;
use crate::ui::{self, say};

/// Pause between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(300);

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Upload firmware to the server: an image, or a release file that was signed elsewhere
    #[command(after_help = "\
Examples:
  otaru release upload lamp-1.1.0.bin
  otaru release upload lamp-1.1.0.bin --rollout              to all lamps, at once
  otaru release upload lamp-1.1.0.otaru --notes 'Fixes the clock'
  otaru release upload WLED_0.14.4_ESP32-C3.bin --version 0.14.4 --product wled

Chip, product and version are read from the file. Arduino builds carry the framework's name and version instead:
give such an image a version, and a product where devices have it in their configuration
(`Config::product`, `otaru sim --product`). Uploading a file again with --version renames its release. A server with
a signing key builds a release file of an image, with patches from the images that devices run; the command waits
for it.")]
    Upload {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Notes for people
        #[arg(long, value_name = "TEXT")]
        notes: Option<String>,
        /// The version, where it is not the image's own
        #[arg(long = "version", value_name = "VERSION")]
        version: Option<String>,
        /// The product, where it is not the image's project name; devices have it as a setting
        #[arg(long, value_name = "NAME")]
        product: Option<String>,
        /// Roll it out to every device of its product and chip, at once; `otaru rollout create` can do it in waves
        #[arg(long)]
        rollout: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List the server's releases
    List {
        /// List releases of this product
        #[arg(long, value_name = "NAME")]
        product: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show a release
    Show {
        /// Id of the release, or `PRODUCT@VERSION`
        release: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Yank a release: it is no longer offered to devices
    Yank {
        /// Id of the release, or `PRODUCT@VERSION`
        release: String,
        /// The same as `unyank`
        #[arg(long, hide = true)]
        undo: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Un-yank a release: offer it again
    Unyank {
        /// Id of the release, or `PRODUCT@VERSION`
        release: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Change the notes of a release
    Notes {
        /// Id of the release, or `PRODUCT@VERSION`
        release: String,
        /// The text
        text: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub(super) async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Upload { files, notes, version, product, rollout, server } => {
            let client = server.client()?;
            let given = [("notes", notes), ("version", version), ("product", product)];
            for file in &files {
                let release = upload(&client, file, &given, output).await?;
                if rollout {
                    let (id, name) = (release["id"].as_i64().unwrap_or_default(), title(&release));
                    let target = json!({"product": release["product"], "chips": [release["chip"]]});
                    let body = json!({"name": name, "release": id, "target": target});
                    let rollout = create(&client, body).await?;
                    let id = rollout["id"].as_u64().unwrap_or_default();
                    return follow(&client, id, Patience::default(), output).await;
                }
            }
        }
        Command::List { product, server } => list(&server.client()?, product.as_deref(), output).await?,
        Command::Show { release, server } => {
            let client = server.client()?;
            let release = find(&client, &release, Yanked::Taken).await?;
            show(&release, output);
        }
        Command::Yank { release, undo, server } => yank(&server.client()?, &release, undo, output).await?,
        Command::Unyank { release, server } => yank(&server.client()?, &release, true, output).await?,
        Command::Notes { release, text, server } => {
            let client = server.client()?;
            let id = find(&client, &release, Yanked::Taken).await?["id"].clone();
            let release: Value = client.patch(&format!("/releases/{id}"), json!({"notes": text})).await?;
            say(output, &release, &format!("{}: noted.", title(&release)));
        }
    }
    Ok(Outcome::Good)
}

async fn yank(client: &Client, text: &str, undo: bool, output: Output) -> anyhow::Result<()> {
    let id = find(client, text, Yanked::Taken).await?["id"].clone();
    let what = if undo { "unyank" } else { "yank" };
    let release: Value = client.post(&format!("/releases/{id}/{what}"), json!({})).await?;
    let (title, release_id) = (title(&release), &release["id"]);
    let done = match undo {
        true => format!("{title} is offered again."),
        false => {
            format!("{title} is offered to nobody any more; `otaru release unyank {release_id}` undoes that.")
        }
    };
    say(output, &release, &done);
    Ok(())
}

/// A file that counts what was read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = self.file.read(buf)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

async fn upload(
    client: &Client,
    path: &Path,
    given: &[(&str, Option<String>)],
    output: Output,
) -> anyhow::Result<Value> {
    let failed = || format!("cannot read {}", path.display());
    let len = File::open(path).and_then(|file| file.metadata()).with_context(failed)?.len();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut query = format!("/releases?filename={}", escape(&name));
    for (name, text) in given {
        if let Some(text) = text {
            query.push_str(&format!("&{name}={}", escape(text)));
        }
    }
    let read = Arc::new(AtomicU64::new(0));
    let (count, path) = (Arc::clone(&read), path.to_owned());
    let open = move || {
        count.store(0, Ordering::Relaxed);
        Ok(Counted { file: File::open(&path)?, read: Arc::clone(&count) })
    };
    let mut live = Live::new(output);
    let sent = client.upload::<Value, _>(&query, len, open);
    tokio::pin!(sent);
    let mut release = loop {
        tokio::select! {
            release = &mut sent => break release?,
            () = tokio::time::sleep(LOOK) => {
                let done = read.load(Ordering::Relaxed);
                let percent = u8::try_from(done * 100 / len.max(1)).unwrap_or(100);
                if let Some(live) = &mut live {
                    live.draw(&[format!("{} {name}  {} of {}", bar(percent), ui::size(done), ui::size(len))]);
                }
            }
        }
    };
    let remarks = std::mem::take(&mut release["remarks"]);
    // With a key on the server, a release file is being made.
    while matches!(release["job"]["state"].as_str(), Some("queued" | "running")) {
        if let Some(live) = &mut live {
            let detail = ui::clean(release["job"]["detail"].as_str().unwrap_or_default());
            live.draw(&[format!("{name}: the server makes a release file  {detail}")]);
        }
        tokio::time::sleep(LOOK).await;
        release = client.get_again(&format!("/releases/{}", release["id"])).await?;
    }
    if let Some(live) = &mut live {
        live.draw(&[]);
    }
    drop(live);
    if release["job"]["state"] == "failed" {
        bail!(
            "{name}: {}",
            ui::clean(release["job"]["detail"].as_str().unwrap_or("no release file could be made"))
        );
    }
    show(&release, output);
    for remark in remarks.as_array().into_iter().flatten().filter_map(Value::as_str) {
        ui::warn(&format!("{name}: {}", ui::clean(remark)));
    }
    Ok(release)
}

/// Reads which boards it runs on, where the server knows it.
fn needs(release: &Value) -> Option<Needs> {
    serde_json::from_value(release["needs"].clone()).ok()
}

fn show(release: &Value, output: Output) {
    if output.json {
        return ui::line(&release.to_string());
    }
    let text = |name: &str| ui::clean(release[name].as_str().unwrap_or_default());
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            ui::line(&format!("{name:<12} {value}"));
        }
    };
    line("release", format!("{}, id {}", title(release), release["id"]));
    line("chip", text("chip"));
    if let Some(needs) = needs(release) {
        line("revisions", needs.revisions());
        line("flash", needs.flash_size.map_or_else(String::new, |size| ui::size(size.into())));
    }
    line("image", text("image"));
    line("file", text("filename"));
    let size = |name: &str| release[name].as_u64().map(ui::size);
    let sizes = [("image", size("image_size")), ("compressed", size("compressed_size"))];
    let sizes: Vec<String> =
        sizes.into_iter().filter_map(|(name, size)| size.map(|size| format!("{size} {name}"))).collect();
    line("size", sizes.join(", "));
    line("signed by", text("signed_by"));
    for delta in release["deltas"].as_array().into_iter().flatten() {
        let base = delta["version"].as_str().or(delta["base"].as_str()).unwrap_or_default();
        line("patch", format!("{} from {}", ui::size(delta["size"].as_u64().unwrap_or(0)), ui::clean(base)));
    }
    line("notes", text("notes"));
    line("runs on", ui::many(release["devices"].as_u64().unwrap_or(0), "device"));
    if let Some(at) = moment(&release["yanked_at"]) {
        line("state", format!("yanked {}; `otaru release unyank` offers it again", ago(at)));
    }
}

async fn list(client: &Client, product: Option<&str>, output: Output) -> anyhow::Result<()> {
    let path = match product {
        Some(product) => format!("/releases?product={}", escape(product)),
        None => "/releases".to_owned(),
    };
    let releases: Vec<Value> = client.list(&path, 1_000).await?;
    if let Some(product) = product.filter(|_| releases.is_empty()) {
        let all: Vec<Value> = client.list("/releases", 1_000).await?;
        let mut products: Vec<&str> = all.iter().filter_map(|release| release["product"].as_str()).collect();
        products.sort_unstable();
        products.dedup();
        bail!(missing("release of", product, products));
    }
    if output.json {
        releases.iter().for_each(|release| ui::line(&release.to_string()));
        return Ok(());
    }
    if releases.is_empty() {
        ui::line("No releases yet; `otaru release upload FILE` brings one.");
        return Ok(());
    }
    let rows = releases.iter().map(|release| {
        let text = |name: &str| ui::clean(release[name].as_str().unwrap_or_default());
        let size = |name: &str| release[name].as_u64().map_or_else(String::new, ui::size);
        let state = if release["yanked_at"].is_null() { "" } else { "yanked" };
        [
            release["id"].to_string(),
            text("product"),
            text("version"),
            text("chip"),
            text("image_short"),
            size("image_size"),
            release["devices"].to_string(),
            since(&release["created_at"]),
            state.to_owned(),
            text("filename"),
        ]
    });
    let heads = ["ID", "PRODUCT", "VERSION", "CHIP", "IMAGE", "SIZE", "DEVICES", "MADE", "", "FILE"];
    grid(heads, rows.collect(), width()).iter().for_each(|line| ui::line(line));
    Ok(())
}
