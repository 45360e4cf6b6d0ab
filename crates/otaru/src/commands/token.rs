//! `otaru token`: who may use the server.

use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;
use otaru_api::{Answer, CreatedToken, NewToken, Page, Timestamp, Token};
use otaru_server::access::offline;
use otaru_server::db::PostgresSettings;
use serde_json::{Value, json};

use crate::client::args::ServerArgs;
use crate::client::http::Client;
use crate::client::secrets::find_good;
use crate::database::DatabaseArgs;
use crate::moment::{self, ago, ahead, parse_from_now, parse_moment, since};
use crate::options::is_given;
use crate::output::{Outcome, Output};
use crate::percent::escape;
use crate::ui;
use crate::ui::grid::{grid, width};

/// Create, list and revoke API tokens
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Create a token; it is shown only once
    #[command(after_help = "\
Examples:
  otaru token create 'build server' --role operator --for 90d
  otaru token create 'fair' --until 2027-01-31T18:00+01:00
  otaru token create 'wall display' --role viewer
  otaru token create me --role admin --data /var/lib/otaru     the last one is lost: at the server's machine,
                                                               while the server is stopped
  otaru token create me --role admin --database postgres://otaru@db.lan/fleet
                                                               the same over PostgreSQL; servers may run")]
    Create {
        /// Purpose, for people
        name: String,
        /// Rights
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// Lifetime, such as 90d; without, until it is revoked
        #[arg(long = "for", value_name = "SPAN", value_parser = parse_from_now)]
        span: Option<Timestamp>,
        /// Expiry: 2027-01-31T18:00:00+01:00 (RFC 3339); without an offset, this machine's time
        #[arg(long, value_name = "WHEN", value_parser = parse_moment, conflicts_with = "span")]
        until: Option<Timestamp>,
        /// Create it in the folder of a stopped server on this machine: no token is needed for that
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List tokens
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Revoke a token
    Revoke {
        /// Id of the token, or its name if no other has it
        #[arg(value_name = "ID|NAME")]
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Rights of a token.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Role {
    /// See everything but secrets
    Viewer,
    /// Also change devices, upload releases and run rollouts
    Operator,
    /// Also tokens, fleet keys and device logins
    Admin,
}

impl Role {
    const fn of_server(self) -> otaru_api::Role {
        use otaru_api::Role as Of;
        match self {
            Self::Viewer => Of::Viewer,
            Self::Operator => Of::Operator,
            Self::Admin => Of::Admin,
        }
    }
}

pub(crate) async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Create { name, role, span, until, data, database, server } => {
            let ends = until.or(span);
            if let Some(past) = ends.filter(|ends| *ends <= moment::now()) {
                bail!("{} is past: a token that ends then is good for nothing", moment::local(past));
            }
            let new = NewToken { name, role: role.of_server(), expires_at: ends };
            // A database in the environment is for whoever asks no server.
            match database.settings()?.filter(|_| data.is_some() || is_given("database")) {
                Some(settings) => offline_in(Place::Postgres(settings), new, output).await?,
                None => match data {
                    Some(data) => offline_in(Place::Folder(data), new, output).await?,
                    None => create(&server.client()?, &new, output).await?,
                },
            }
        }
        Command::List { server } => list(&server, output).await?,
        Command::Revoke { id, server } => {
            let client = server.client()?;
            let id = find_good::<Token>(&client, &id).await?;
            client.delete(&format!("/tokens/{}", escape(&id))).await?;
            match output.json {
                true => ui::line(&json!({"revoked": id}).to_string()),
                false => ui::line(&format!("The token {id} is revoked.")),
            }
        }
    }
    Ok(Outcome::Good)
}

async fn create(client: &Client, new: &NewToken, output: Output) -> anyhow::Result<()> {
    let made: Answer<CreatedToken> = client.post("/tokens", new).await?;
    if let Err(error) = show(&made.value, &made.json, output) {
        client.delete(&format!("/tokens/{}", escape(&made.value.token.id))).await?;
        bail!(not_shown(&error));
    }
    Ok(())
}

/// Place of a fleet, if no server is asked.
enum Place {
    /// Folder of a server that is stopped.
    Folder(PathBuf),
    /// Database, whose servers may run.
    Postgres(Box<PostgresSettings>),
}

/// Makes one in the database itself, on a thread that may wait for it.
async fn offline_in(place: Place, new: NewToken, output: Output) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || create_offline(&place, new, output)).await?
}

fn create_offline(place: &Place, new: NewToken, output: Output) -> anyhow::Result<()> {
    for option in ["server", "token", "token_file"] {
        if is_given(option) {
            let option = option.replace('_', "-");
            let place = if matches!(place, Place::Folder(_)) { "--data" } else { "--database" };
            bail!("give {place} or --{option}, not both: with {place} no server is asked");
        }
    }
    let made = match place {
        Place::Folder(data) => offline::create(data, new)?,
        Place::Postgres(settings) => offline::create_in(settings, new)?,
    };
    let shown = CreatedToken { token: made.token.clone(), text: made.text.expose().to_owned() };
    if let Err(error) = show(&shown, &serde_json::to_value(&shown)?, output) {
        made.take_back()?;
        bail!(not_shown(&error));
    }
    Ok(())
}

/// Shows a new token.
///
/// # Errors
/// When it cannot be written, so that nobody has it.
fn show(made: &CreatedToken, json: &Value, output: Output) -> std::io::Result<()> {
    if output.json {
        return ui::print(&json.to_string());
    }
    ui::line("The token, shown this once:");
    ui::print(&format!("  {}", made.text))?;
    made.token.expires_at.map_or(Ok(()), |end| ui::print(&format!("It ends {}.", ahead(end))))
}

fn not_shown(error: &std::io::Error) -> String {
    format!("the token could not be shown, so it was revoked again: {error}")
}

async fn list(server: &ServerArgs, output: Output) -> anyhow::Result<()> {
    let tokens: Page<Answer<Token>> = server.client()?.get("/tokens").await?;
    if output.json {
        tokens.items.iter().for_each(|token| ui::line(&token.json.to_string()));
        return Ok(());
    }
    let rows = tokens.items.iter().map(|Answer { value: token, .. }| {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(end)) if end <= moment::now() => "expired".to_owned(),
            (None, Some(end)) => format!("ends {}", ago(end)),
            (None, None) => "good".to_owned(),
        };
        [
            ui::clean(&token.id),
            ui::clean(&token.name),
            ui::clean(token.role.as_str()),
            state,
            since(token.used_at),
            ago(token.created_at),
        ]
    });
    let heads = ["ID", "NAME", "ROLE", "STATE", "USED", "MADE"];
    grid(heads, rows.collect(), width()).iter().for_each(|line| ui::line(line));
    Ok(())
}
