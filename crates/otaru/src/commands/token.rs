//! `otaru token`: who may use the server.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::cli::{Outcome, Output};
use crate::client::when::{ago, parse_span};
use crate::client::{ServerArgs, escape, when};
use crate::ui;
use crate::ui::grid::{grid, width};

/// Make, list and end API tokens
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make one, which is shown this once
    #[command(after_help = "\
Examples:
  otaru token create 'build server' --role operator --for 90d
  otaru token create 'wall display' --role viewer")]
    Create {
        /// What it is for
        name: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// How long it is good, such as 90d; without, until it is revoked
        #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
        span: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List them
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// End one
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// What a token may do.
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
    const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

pub(crate) async fn run(command: Command, output: Output) -> anyhow::Result<Outcome> {
    match command {
        Command::Create { name, role, span, server } => {
            let ends = span.map(|span| when::now().saturating_add(span));
            let body = json!({"name": name, "role": role.name(), "expires_at": ends});
            let made: Value = server.client()?.post("/tokens", body).await?;
            if output.json {
                ui::line(&made.to_string());
            } else {
                ui::line("The token, shown this once:");
                ui::line(&format!("  {}", made["text"].as_str().unwrap_or("?")));
            }
        }
        Command::List { server } => list(&server, output).await?,
        Command::Revoke { id, server } => {
            server.client()?.delete(&format!("/tokens/{}", escape(&id))).await?;
            match output.json {
                true => ui::line(&json!({"revoked": id}).to_string()),
                false => ui::line(&format!("{} is revoked.", ui::clean(&id))),
            }
        }
    }
    Ok(Outcome::Good)
}

async fn list(server: &ServerArgs, output: Output) -> anyhow::Result<()> {
    let tokens: Value = server.client()?.get("/tokens").await?;
    let tokens = tokens["items"].as_array().cloned().unwrap_or_default();
    if output.json {
        tokens.iter().for_each(|token| ui::line(&token.to_string()));
        return Ok(());
    }
    let rows = tokens.iter().map(|token| {
        let text = |name: &str| ui::clean(token[name].as_str().unwrap_or_default());
        let at = |name: &str| token[name].as_u64().map_or_else(String::new, ago);
        let state = match (token["revoked_at"].is_null(), token["expires_at"].as_u64()) {
            (false, _) => "revoked".to_owned(),
            (true, Some(end)) if end <= when::now() => "expired".to_owned(),
            (true, Some(end)) => format!("ends {}", ago(end)),
            (true, None) => "good".to_owned(),
        };
        [text("id"), text("name"), text("role"), state, at("used_at"), at("created_at")]
    });
    let heads = ["ID", "NAME", "ROLE", "STATE", "USED", "MADE"];
    grid(heads, rows.collect(), width()).iter().for_each(|line| ui::line(line));
    Ok(())
}
