//! `otaru backup` and `otaru restore`: everything a server keeps, in one file.

use std::path::PathBuf;

use anyhow::bail;
use otaru_server::backup::{Contents, backup, restore};
use serde_json::json;

use crate::cli::{Outcome, Output};
use crate::ui;
use crate::ui::live::Live;
use crate::ui::table::bar;

/// Back up a server's data, also while it runs
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  otaru backup --data /var/lib/otaru -o otaru-$(date +%F).tar

The file holds everything the server keeps: firmware, devices, rollouts, and the hashes of tokens
and logins. The signing key is not in it; keep a copy of that elsewhere.")]
pub(crate) struct Args {
    /// The server's folder
    #[arg(long, value_name = "DIR", default_value = "otaru-data", env = "OTARU_DATA")]
    data: PathBuf,
    /// Where to write the backup
    #[arg(short, long, value_name = "FILE.tar")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<Outcome> {
    if args.output.exists() {
        bail!("{} is there already; choose another name", args.output.display());
    }
    let contents = backup(&args.data, &args.output, progress(output))?;
    tell("backup", &args.output, contents, output);
    Ok(Outcome::Good)
}

/// Restore a backup to a new folder
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  otaru restore otaru-2027-01-31.tar --data /var/lib/otaru && otaru serve --data /var/lib/otaru")]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE.tar")]
    file: PathBuf,
    /// The folder; it must hold no server's data yet
    #[arg(long, value_name = "DIR", default_value = "otaru-data", env = "OTARU_DATA")]
    data: PathBuf,
}

pub(crate) fn run_restore(args: &RestoreArgs, output: Output) -> anyhow::Result<Outcome> {
    let contents = restore(&args.file, &args.data, progress(output))?;
    tell("restore", &args.data, contents, output);
    Ok(Outcome::Good)
}

fn progress(output: Output) -> impl FnMut(u64, u64) {
    let mut live = Live::new(output);
    move |done, of| {
        if let Some(live) = live.as_mut().filter(|live| live.due() || done == of) {
            let percent = u8::try_from(done * 100 / of.max(1)).unwrap_or(100);
            live.draw(&[format!("{} {done} of {of} files", bar(percent))]);
        }
    }
}

fn tell(what: &str, path: &std::path::Path, contents: Contents, output: Output) {
    let Contents { artifacts, bytes } = contents;
    if output.json {
        ui::event(json!({"event": what, "path": path, "artifacts": artifacts, "bytes": bytes}));
    } else {
        let size = ui::size(bytes);
        ui::line(&format!("{}: the database and {artifacts} firmware files, {size}", path.display()));
    }
}
