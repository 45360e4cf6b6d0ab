//! `otaru backup` and `otaru restore`: everything a server keeps, in one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use otaru_server::backup::{BackupError, Contents, Logins, Restored, Scope, backup, restore};
use otaru_server::db::PostgresSettings;
use serde_json::json;

use crate::output::{Outcome, Output};
use crate::ui::bar::bar;
use crate::ui::live::Live;
use crate::{signals, trust, ui};

/// Back up a server's data, also while it runs
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  otaru backup --data /var/lib/otaru -o otaru-$(date +%F).tar

The file holds everything the server keeps: firmware, devices, rollouts, and the hashes of tokens
and logins. The signing key is not in it; keep a copy of that elsewhere.
A fleet in PostgreSQL is backed up by PostgreSQL's own tools: --database says how.
Firmware in a bucket (`otaru serve --artifacts s3://…`) is in no backup: have the bucket keep
versions, copy it by its own tools, and back up the rest with --database-only.")]
pub(crate) struct Args {
    /// The server's folder
    #[arg(long, value_name = "DIR", default_value = "otaru-data", env = "OTARU_DATA")]
    data: PathBuf,
    /// File for the backup
    #[arg(short, long, value_name = "FILE.tar", required_unless_present = "database")]
    output: Option<PathBuf>,
    /// Back up the database alone; firmware that is in a bucket is copied by the bucket's own tools
    #[arg(long)]
    database_only: bool,
    /// The fleet is in PostgreSQL: say how it is backed up, which is done by its own tools
    #[arg(long, value_name = "URL", env = "OTARU_DATABASE")]
    database: Option<String>,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    if let Some(url) = &args.database {
        bail!("{}", in_postgres(url)?);
    }
    let Args { data, output: to, database_only, .. } = args;
    // It is asked for wherever the database is no other.
    let to = to.context("--output FILE.tar is missing")?;
    if to.exists() {
        bail!("{} is there already; choose another name", to.display());
    }
    let (out, scope) = (to.clone(), scope(database_only));
    let contents = until_stopped(move |stop| backup(&data, &out, scope, stop, progress(output))).await?;
    tell("backup", &to, contents, output);
    Ok(Outcome::Good)
}

/// Says how a fleet in PostgreSQL is backed up and restored. Half of it would be done here, and look like all.
fn in_postgres(url: &str) -> anyhow::Result<String> {
    // One with a password in it is not repeated.
    PostgresSettings::parse(url, trust::of_this_run()).context("--database")?;
    let url = ui::clean(url);
    Ok(format!(
        "a fleet in PostgreSQL is backed up and restored by PostgreSQL's own tools; nothing was done.
To back up, in this order (what the database names is in a copy of firmware that is made after it):
  1. pg_dump --format=custom --file otaru.dump '{url}'
  2. a copy of the firmware: of the folder `artifacts` (or --artifacts), or of the bucket (`aws s3 sync`), which best keeps versions
  3. a copy of the signing key and of `tls` in the data folder, if devices trust what is there
To restore, with all servers stopped:
  1. the firmware to where it was
  2. createdb --owner otaru --encoding UTF8 fleet, by who may make databases, the owner being the user of the URL
     pg_restore --no-owner --single-transaction --dbname '{url}' otaru.dump
  3. psql '{url}' -c \"{RESTORED}\"
     nobody stays logged in to the dashboard, and rollouts go on with numbers above those that devices know
  4. otaru serve --database '{url}'"
    ))
}

/// Marks a database as restored, as `otaru restore` does with a file.
const RESTORED: &str = "DELETE FROM sessions; INSERT INTO meta (key, value) \
    VALUES ('restored_at', (extract(epoch FROM now()) * 1000)::bigint::text) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

fn scope(database_only: bool) -> Scope {
    if database_only { Scope::DatabaseOnly } else { Scope::Whole }
}

/// Does the work on a thread of its own. Whoever ends it meanwhile waits until it has tidied up.
async fn until_stopped<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T, BackupError> + Send + 'static,
) -> anyhow::Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut working = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || work(&stop)
    });
    let done = tokio::select! {
        done = &mut working => done,
        () = signals::stop() => {
            stop.store(true, Ordering::Relaxed);
            working.await
        }
    };
    Ok(done??)
}

/// Restore a backup to a new folder
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  otaru restore otaru-2027-01-31.tar --data /var/lib/otaru && otaru serve --data /var/lib/otaru

Tokens and fleet keys that were revoked since the backup was made are good again. With --end-logins
none is: the next start of the server prints a new admin token. Devices' own passwords stay.")]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE.tar", required_unless_present = "database")]
    file: Option<PathBuf>,
    /// The folder; it must hold no server's data yet
    #[arg(long, value_name = "DIR", default_value = "otaru-data", env = "OTARU_DATA")]
    data: PathBuf,
    /// Revoke all tokens and fleet keys in the backup
    #[arg(long)]
    end_logins: bool,
    /// Restore a backup of the database alone; its firmware is in a bucket, or copied by other means
    #[arg(long)]
    database_only: bool,
    /// The fleet is in PostgreSQL: say how it is restored, which is done by its own tools
    #[arg(long, value_name = "URL", env = "OTARU_DATABASE")]
    database: Option<String>,
}

pub(crate) async fn run_restore(args: RestoreArgs, output: Output) -> anyhow::Result<Outcome> {
    if let Some(url) = &args.database {
        bail!("{}", in_postgres(url)?);
    }
    let logins = if args.end_logins { Logins::Ended } else { Logins::AsTheyWere };
    let RestoreArgs { file, data, database_only, .. } = args;
    let file = file.context("FILE.tar is missing")?;
    let (to, scope) = (data.clone(), scope(database_only));
    let restored =
        until_stopped(move |stop| restore(&file, &to, logins, scope, stop, progress(output))).await?;
    tell_restored(&data, &restored, output);
    Ok(Outcome::Good)
}

/// Says what was restored, and what is good again that somebody may have ended for a reason.
fn tell_restored(data: &Path, restored: &Restored, output: Output) {
    let Restored { contents, tokens, fleet_keys, devices, is_open } = restored;
    if output.json {
        ui::event(json!({
            "event": "restore", "path": data, "artifacts": contents.artifacts, "bytes": contents.bytes,
            "tokens": tokens, "fleet_keys": fleet_keys, "devices": devices,
        }));
    } else {
        tell("restore", data, *contents, output);
        let devices = ui::many(*devices, "device");
        ui::line(&format!("Tokens that are good again: {}", names(tokens)));
        ui::line(&format!("Fleet keys that are good again: {}", names(fleet_keys)));
        ui::line(&format!(
            "The passwords of {devices} are as they were, and nobody is logged in to the dashboard."
        ));
    }
    if !tokens.is_empty() || !fleet_keys.is_empty() {
        ui::warn("what was revoked since the backup was made is good again; --end-logins ends all of it");
    }
    if *is_open {
        ui::warn(&format!("others may look into {0}; `chmod 700 {0}` ends that", data.display()));
    }
}

fn names(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("\"{}\"", ui::clean(name))).collect::<Vec<_>>().join(", "),
    }
}

fn progress(output: Output) -> impl FnMut(u64, u64) {
    let mut live = Live::new(output);
    move |done, of| {
        if let Some(live) = live.as_mut().filter(|live| live.due() || done == of) {
            let percent = u8::try_from(done * 100 / of.max(1)).unwrap_or(100);
            live.draw(&[format!("{} {done} of {}", bar(percent), ui::many(of, "file"))]);
        }
    }
}

fn tell(what: &str, path: &Path, contents: Contents, output: Output) {
    let Contents { artifacts, bytes } = contents;
    if output.json {
        ui::event(json!({"event": what, "path": path, "artifacts": artifacts, "bytes": bytes}));
    } else {
        let (files, size) = (ui::many(artifacts, "firmware file"), ui::size(bytes));
        ui::line(&format!("{}: the database and {files}, {size}", path.display()));
    }
}
