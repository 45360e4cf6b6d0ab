//! `otaru devices add`, `password` and `allow-claim`: how devices come to their logins.

use anyhow::Context as _;
use otaru_api::{AddedDevice, Answer, DeviceDetails, DeviceLogin, NewDevice};
use otaru_rollout::Tag;
use serde_json::Value;

use super::one::One;
use super::tag::by_name;
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
    let new = NewDevice { id, label: None, tags: by_name(tag) };
    let done: Answer<AddedDevice> = server.client()?.post("/devices", &new).await?;
    tell_login(output, &done.json, &new.id, &done.value.password)?;
    ui::remark(output, &done.value.remarks);
    Ok(())
}

pub(super) async fn password(one: One, output: Output) -> anyhow::Result<()> {
    let done: Answer<DeviceLogin> = one.ask(async |client| client.act(&one.path("/password")).await).await?;
    tell_login(output, &done.json, &one.id, &done.value.password)?;
    ui::remark(output, &done.value.remarks);
    Ok(())
}

pub(super) async fn allow_claim(one: One, output: Output) -> anyhow::Result<()> {
    let done: Answer<DeviceDetails> = one.server.client()?.act(&one.path("/allow-claim")).await?;
    let text = format!("{} may be claimed with a fleet key, once, within the next hour.", one.id);
    say(output, &done.json, &text);
    ui::remark(output, &done.value.remarks);
    Ok(())
}

/// Shows a device's new login.
///
/// # Errors
/// When it cannot be written, so that nobody has it.
fn tell_login(output: Output, json: &Value, id: &str, password: &str) -> anyhow::Result<()> {
    let id = ui::clean(id);
    let shown = match output.json {
        true => ui::print(&json.to_string()),
        false => {
            ui::line("Its login at the broker, shown this once:");
            ui::line(&format!("  user name  {id}"));
            let shown = ui::print(&format!("  password   {password}"));
            ui::line(&format!("  client id  {id}"));
            shown
        }
    };
    shown.with_context(|| {
        format!("the password could not be shown; `otaru devices password {id}` makes another")
    })
}
