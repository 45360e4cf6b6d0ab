//! `otaru servers`: servers that share a database, and what each does.

use otaru_api::{Answer, ServerMember, Servers};

use crate::client::args::ServerArgs;
use crate::moment::{ago, span};
use crate::output::{Outcome, Output};
use crate::ui;
use crate::ui::grid::{grid, width};

/// Difference from the database's clock that is told, in seconds.
const SKEW: u64 = 5;

/// List the servers that share the database, with the shards and tasks of each
#[derive(clap::Args)]
#[command(after_help = "\
A fleet is cut into 256 shards by a hash of each device's id. Each server takes in what its own shards' devices
report, and sends what they are to be told. `rollouts`, `jobs` (release files and patches) and `home assistant` are
done by one server for all. What a server held that is gone is another's within ten seconds. CLOCK says how far a
server's clock differs from the database's, if that is 5 seconds or more. A server that has no connection to the
broker, while another has, holds nothing until it is back.")]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<Outcome> {
    let found: Answer<Servers> = args.server.client()?.get("/servers").await?;
    if output.json {
        ui::line(&found.json.to_string());
        return Ok(Outcome::Good);
    }
    let heads = ["SERVER", "SHARDS", "TASKS", "VERSION", "STARTED", "CLOCK", "BROKER"];
    let rows = found.value.items.iter().map(row).collect();
    grid(heads, rows, width()).iter().for_each(|line| ui::line(line));
    Ok(Outcome::Good)
}

fn row(server: &ServerMember) -> [String; 7] {
    let mark = if server.answers { " (this one)" } else { "" };
    [
        format!("{}{mark}", ui::clean(&server.name)),
        server.shards.to_string(),
        if server.tasks.is_empty() { "-".to_owned() } else { ui::clean(&server.tasks.join(", ")) },
        ui::clean(&server.version),
        ago(server.started_at),
        clock(server.clock_ahead_ms),
        broker(server),
    ]
}

/// Tells where a server's broker is, and that it is away.
fn broker(server: &ServerMember) -> String {
    let place = ui::clean(&server.broker);
    match server.broker_away_since {
        Some(since) => format!("lost {}: {place}", ago(since)),
        None => place,
    }
}

/// Tells how far a server's clock is off.
fn clock(ahead_ms: Option<i64>) -> String {
    let Some(ahead) = ahead_ms else { return "-".to_owned() };
    match ahead.unsigned_abs() / 1_000 {
        0..SKEW => "good".to_owned(),
        seconds => format!("{} {}", span(seconds), if ahead < 0 { "behind" } else { "ahead" }),
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn a_clock_that_is_off_is_told() {
        let told = [None, Some(0), Some(-4_999), Some(5_000), Some(-90_500)].map(clock);
        assert_eq!(told, ["-", "good", "good", "5 s ahead", "90 s behind"]);
    }
}
