//! `otaru migrate`: a fleet from SQLite into PostgreSQL.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use otaru_server::migrate::{Moved, Progress, Stage, migrate};
use serde_json::json;

use crate::output::{Outcome, Output};
use crate::ui::bar::bar;
use crate::ui::grid::{grid, width};
use crate::ui::live::Live;
use crate::{database, signals, ui};

/// Characters of a digest that a table shows; --json has all.
const SHORT: usize = 16;

/// Move a fleet from SQLite into PostgreSQL
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  createuser otaru --pwprompt && createdb --owner otaru --encoding UTF8 fleet
  otaru migrate --from /var/lib/otaru --to postgres://otaru@db.lan/fleet --database-password-file db.txt
  otaru serve --data /var/lib/otaru --database postgres://otaru@db.lan/fleet --database-password-file db.txt

Stop the server first, and start it again with --database: devices, releases, rollouts, tokens,
logins and the audit log are as they were. The database must be empty; the file is only read, and
stays. Every table is counted and hashed in both before anything is final: either all of it is
there, or the database is still empty, also if this is killed in the middle.

Firmware is not in the database. In a bucket it stays where it is. The folder `artifacts` stays in
the data folder, too, if the server goes on with that: otherwise copy it to where the new server
has --artifacts, and name that. Several servers need one place for all: a bucket, or a folder that
all of them see.

Do not start a server with the old file again: devices would hear from two fleets.")]
pub(crate) struct Args {
    /// The stopped server's folder, or a file of SQLite's
    #[arg(long, value_name = "DIR|FILE.db", default_value = "otaru-data", env = "OTARU_DATA")]
    from: PathBuf,
    /// An empty database: `postgres://USER@HOST[:PORT]/DATABASE`; on another machine over TLS
    #[arg(long, value_name = "URL", env = "OTARU_DATABASE")]
    to: String,
    /// A file whose first line is the password for --to; otherwise that of PGPASSFILE, or ~/.pgpass
    #[arg(long, value_name = "FILE")]
    database_password_file: Option<PathBuf>,
    /// PEM file of the CAs that the server of --to may be of; otherwise as --ca
    #[arg(long, value_name = "PEM")]
    database_ca: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let Args { from, to, database_password_file: password, database_ca: ca } = args;
    let settings = database::settings(&to, password.as_deref(), ca.as_deref()).context("--to")?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut moving = tokio::task::spawn_blocking({
        let (stop, settings, mut told) = (Arc::clone(&stop), settings.clone(), teller(output));
        move || migrate(&from, &settings, &stop, |now| told(&now))
    });
    let moved = tokio::select! {
        moved = &mut moving => moved,
        () = signals::stop() => {
            stop.store(true, Ordering::Relaxed);
            moving.await
        }
    };
    tell(&settings.to_string(), &moved??, output);
    Ok(Outcome::Good)
}

/// Shows how far it is: a bar on a terminal, an event a table as JSON.
fn teller(output: Output) -> impl FnMut(&Progress<'_>) {
    let mut live = Live::new(output);
    move |now| {
        let what = match now.stage {
            Stage::Copy => "copied",
            Stage::Check => "checked",
        };
        if output.json && now.table_done {
            ui::event(json!({"event": what, "table": now.table, "done": now.done, "of": now.of}));
        }
        if let Some(live) = live.as_mut().filter(|live| live.due() || now.done == now.of) {
            let percent = u8::try_from(now.done * 100 / now.of.max(1)).unwrap_or(100);
            live.draw(&[format!("{} {percent} %, {what}: {}", bar(percent), now.table)]);
        }
    }
}

/// Shows the tables that were moved, and what comes next.
fn tell(to: &str, moved: &[Moved], output: Output) {
    let rows: u64 = moved.iter().map(|table| table.rows).sum();
    let replaced: u64 = moved.iter().map(|table| table.replaced).sum();
    if output.json {
        let tables: Vec<_> = moved
            .iter()
            .map(|Moved { table, rows, digest, replaced }| {
                json!({"table": table, "rows": rows, "sha256": digest, "replaced": replaced})
            })
            .collect();
        ui::event(json!({"event": "migrate", "to": to, "rows": rows, "tables": tables}));
        return;
    }
    let cells = |table: &Moved| {
        [table.table.clone(), table.rows.to_string(), table.digest.chars().take(SHORT).collect()]
    };
    let heads = ["TABLE", "ROWS", "SHA-256"];
    grid(heads, moved.iter().map(cells).collect(), width()).iter().for_each(|line| ui::line(line));
    let (rows, tables) = (ui::many(rows, "row"), ui::many(moved.len() as u64, "table"));
    ui::line(&format!("{rows} in {tables} are at {to}, counted and hashed there: the fleet is whole."));
    if replaced > 0 {
        let texts = ui::many(replaced, "text");
        ui::warn(&format!("{texts} had a NUL, which PostgreSQL cannot have; U+FFFD stands there now"));
    }
    ui::line(&format!("Start the server with --database {to}, and not with the old file again."));
    ui::line("Firmware is where it was; a server elsewhere needs a copy of the folder `artifacts`.");
}
