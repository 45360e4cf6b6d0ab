//! `otaru devices key`: fleet keys.

use anyhow::bail;
use otaru_rollout::Tag;
use serde_json::{Value, json};

use super::tag::as_json;
use crate::client::args::ServerArgs;
use crate::client::secrets::find_good;
use crate::output::Output;
use crate::percent::escape;
use crate::ui::{self, say};

/// Fleet keys: secrets with which devices may come that are not known yet.
#[derive(clap::Subcommand)]
pub(super) enum KeyCommand {
    /// Create a fleet key; it is shown only once
    Create {
        /// Purpose, for people
        name: String,
        /// Tag for devices that register with it; may be given several times
        #[arg(long, value_name = "TAG")]
        tag: Vec<Tag>,
        /// Largest number of devices that may register with it [default: the server's limit]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List fleet keys
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Revoke a fleet key
    Revoke {
        /// Id of the key, or its name if no other has it
        #[arg(value_name = "ID|NAME")]
        id: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub(super) async fn run(command: KeyCommand, output: Output) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { name, tag, limit, server } => {
            let mut body = json!({"name": name, "tags": as_json(&tag)});
            if let Some(limit) = limit {
                body["max_devices"] = limit.into();
            }
            let client = server.client()?;
            let done: Value = client.post("/fleet-keys", body).await?;
            let shown = match output.json {
                true => ui::print(&done.to_string()),
                false => {
                    ui::line(
                        "The fleet key, shown this once. Devices use it as their password at the broker:",
                    );
                    ui::print(&format!("  {}", done["text"].as_str().unwrap_or("?")))
                }
            };
            if let Err(error) = shown {
                let id = done["id"].as_str().unwrap_or_default();
                client.delete(&format!("/fleet-keys/{}", escape(id))).await?;
                bail!("the fleet key could not be shown, so it was revoked again: {error}");
            }
        }
        KeyCommand::List { server } => {
            let keys: Value = server.client()?.get("/fleet-keys").await?;
            for key in keys["items"].as_array().into_iter().flatten() {
                let ended = if key["revoked_at"].is_null() { "" } else { "  revoked" };
                let name = ui::clean(key["name"].as_str().unwrap_or_default());
                let devices = ui::many(key["devices"].as_u64().unwrap_or(0), "device");
                let most = key["max_devices"].as_u64().map_or_else(String::new, |most| format!(" of {most}"));
                let id = key["id"].as_str().unwrap_or_default();
                say(output, key, &format!("{id}  {name}  {devices}{most}{ended}"));
            }
        }
        KeyCommand::Revoke { id, server } => {
            let client = server.client()?;
            let id = find_good(&client, "fleet key", "/fleet-keys", &id).await?;
            client.delete(&format!("/fleet-keys/{}", escape(&id))).await?;
            say(output, &json!({"revoked": id}), &format!("The fleet key {id} is revoked."));
        }
    }
    Ok(())
}
