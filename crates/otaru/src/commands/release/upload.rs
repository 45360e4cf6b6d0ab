//! `otaru release upload`: sends files, waits for the release files that the server makes of them, and may roll them out.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use otaru_api::{Answer, Job, JobState, NewRollout, Release, UploadQuery, Uploaded};
use otaru_rollout::Target;

use super::show::tell;
use crate::client::args::ServerArgs;
use crate::client::http::{Client, with_query};
use crate::client::releases::title;
use crate::output::{Outcome, Output};
use crate::rollouts::follow::{Patience, follow};
use crate::rollouts::make::create;
use crate::ui;
use crate::ui::bar::bar;
use crate::ui::live::Live;

/// Pause between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
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
pub(super) struct Upload {
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
}

pub(super) async fn run(args: Upload, output: Output) -> anyhow::Result<Outcome> {
    let client = args.server.client()?;
    let given = UploadQuery {
        notes: args.notes,
        version: args.version,
        product: args.product,
        ..UploadQuery::default()
    };
    for file in &args.files {
        let release = upload(&client, file, &given, output).await?;
        if args.rollout {
            let rollout = create(&client, &to_all(&release)).await?;
            return follow(&client, rollout.value.id, Patience::default(), output).await;
        }
    }
    Ok(Outcome::Good)
}

/// Returns a rollout of this release to every device that it is for.
fn to_all(release: &Release) -> NewRollout {
    NewRollout {
        name: title(release),
        release: Some(release.id),
        target: Target {
            product: Some(release.product.clone()),
            chips: [release.chip.clone()].into(),
            ..Target::default()
        },
        ..NewRollout::default()
    }
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

/// Uploads a file, and waits until the server is through with it.
async fn upload(
    client: &Client,
    path: &Path,
    given: &UploadQuery,
    output: Output,
) -> anyhow::Result<Release> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut live = Live::new(output);
    let Answer { value: Uploaded { release, remarks }, mut json } =
        send(client, path, &name, given, live.as_mut()).await?;
    // They are told as words of caution, not as a part of the release.
    if let Some(fields) = json.as_object_mut() {
        fields.insert("remarks".into(), serde_json::Value::Null);
    }
    let mut release = Answer { value: release, json };
    // With a key on the server, a release file is being made.
    while let Some(job) = release.value.job.as_ref().filter(|job| job.is_under_way()) {
        if let Some(live) = &mut live {
            live.draw(&[format!("{name}: the server makes a release file  {}", ui::clean(&job.detail))]);
        }
        tokio::time::sleep(LOOK).await;
        release = client.get_again(&format!("/releases/{}", release.value.id)).await?;
    }
    if let Some(live) = &mut live {
        live.draw(&[]);
    }
    drop(live);
    if let Some(job) = release.value.job.as_ref().filter(|job| job.state == JobState::Failed) {
        bail!("{name}: {}", why(job));
    }
    tell(&release, output);
    for remark in remarks {
        ui::warn(&format!("{name}: {}", ui::clean(&remark)));
    }
    Ok(release.value)
}

/// Words for a job that failed.
fn why(job: &Job) -> String {
    match job.detail.as_str() {
        "" => "no release file could be made".into(),
        detail => ui::clean(detail),
    }
}

/// Sends a file, and shows how far it is.
async fn send(
    client: &Client,
    path: &Path,
    name: &str,
    given: &UploadQuery,
    mut live: Option<&mut Live>,
) -> anyhow::Result<Answer<Uploaded>> {
    let failed = || format!("cannot read {}", path.display());
    let len = File::open(path).and_then(|file| file.metadata()).with_context(failed)?.len();
    let query = UploadQuery { filename: Some(name.to_owned()), ..given.clone() };
    let to = with_query("/releases", &query);
    let read = Arc::new(AtomicU64::new(0));
    let (count, path) = (Arc::clone(&read), path.to_owned());
    let open = move || {
        count.store(0, Ordering::Relaxed);
        Ok(Counted { file: File::open(&path)?, read: Arc::clone(&count) })
    };
    let sent = client.upload(&to, len, open);
    tokio::pin!(sent);
    loop {
        tokio::select! {
            answer = &mut sent => return answer,
            () = tokio::time::sleep(LOOK) => {
                let done = read.load(Ordering::Relaxed);
                let percent = u8::try_from(done * 100 / len.max(1)).unwrap_or(100);
                if let Some(live) = &mut live {
                    live.draw(&[format!("{} {name}  {} of {}", bar(percent), ui::size(done), ui::size(len))]);
                }
            }
        }
    }
}
