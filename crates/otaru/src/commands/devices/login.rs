//! `otaru devices add`, `password` and `allow-claim`: how devices come to their logins.

use anyhow::Context as _;
use otaru_rollout::Tag;
use serde_json::{Value, json};

use super::one::One;
use super::tag::as_json;
use crate::client::args::ServerArgs;
use crate::output::Output;
use crate::ui::{self, say};

#[derive(clap::Args)]
pub(super) struct Add {
    /// Name in MQTT topics
    id: String,
    /// Tag to set; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<Tag>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn add(args: Add, output: Output) -> anyhow::Result<()> {
    let Add { id, tag, server } = args;
    let done: Value = server.client()?.post("/devices", json!({"id": id, "tags": as_json(&tag)})).await?;
    tell_login(output, &done, &id)
}

pub(super) async fn password(one: One, output: Output) -> anyhow::Result<()> {
    let done = one.ask(async |client| client.post(&one.path("/password"), json!({})).await).await?;
    tell_login(output, &done, &one.id)
}

pub(super) async fn allow_claim(one: One, output: Output) -> anyhow::Result<()> {
    let done: Value = one.server.client()?.post(&one.path("/allow-claim"), json!({})).await?;
    say(output, &done, &format!("{} may be claimed with a fleet key, once, within the next hour.", one.id));
    Ok(())
}

/// Shows a device's new login.
///
/// # Errors
/// When it cannot be written, so that nobody has it.
fn tell_login(output: Output, done: &Value, id: &str) -> anyhow::Result<()> {
    let id = ui::clean(id);
    let shown = match output.json {
        true => ui::print(&done.to_string()),
        false => {
            ui::line("Its login at the broker, shown this once:");
            ui::line(&format!("  user name  {id}"));
            let shown = ui::print(&format!("  password   {}", done["password"].as_str().unwrap_or("?")));
            ui::line(&format!("  client id  {id}"));
            shown
        }
    };
    shown.with_context(|| {
        format!("the password could not be shown; `otaru devices password {id}` makes another")
    })
}
