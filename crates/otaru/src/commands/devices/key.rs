//! `otaru devices key`: fleet keys.

use anyhow::bail;
use otaru_api::{Answer, CreatedFleetKey, FleetKey, NewFleetKey, Page};
use otaru_rollout::Tag;
use serde_json::json;

use super::tag::by_name;
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
            let new = NewFleetKey { name, tags: by_name(tag), max_devices: limit };
            let client = server.client()?;
            let done: Answer<CreatedFleetKey> = client.post("/fleet-keys", &new).await?;
            let shown = match output.json {
                true => ui::print(&done.json.to_string()),
                false => {
                    ui::line(
                        "The fleet key, shown this once. Devices use it as their password at the broker:",
                    );
                    ui::print(&format!("  {}", done.value.text))
                }
            };
            if let Err(error) = shown {
                client.delete(&format!("/fleet-keys/{}", escape(&done.value.key.id))).await?;
                bail!("the fleet key could not be shown, so it was revoked again: {error}");
            }
            ui::remark(output, &done.value.remarks);
        }
        KeyCommand::List { server } => {
            let keys: Page<Answer<FleetKey>> = server.client()?.get("/fleet-keys").await?;
            for Answer { value: key, json } in &keys.items {
                let ended = if key.revoked_at.is_none() { "" } else { "  revoked" };
                let devices = ui::many(key.devices, "device");
                let most = key.max_devices.map_or_else(String::new, |most| format!(" of {most}"));
                say(output, json, &format!("{}  {}  {devices}{most}{ended}", key.id, key.name));
            }
        }
        KeyCommand::Revoke { id, server } => {
            let client = server.client()?;
            let id = find_good::<FleetKey>(&client, &id).await?;
            client.delete(&format!("/fleet-keys/{}", escape(&id))).await?;
            say(output, &json!({"revoked": id}), &format!("The fleet key {id} is revoked."));
        }
    }
    Ok(())
}
