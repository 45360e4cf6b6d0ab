//! `otaru devices show`: all that is known of a device, and its history.

use serde_json::{Value, json};

use super::one::One;
use crate::client::answer::since;
use crate::client::http::Client;
use crate::client::search::misspelt;
use crate::output::Output;
use crate::percent::escape;
use crate::registry::state;
use crate::ui;

pub(super) async fn run(one: One, output: Output) -> anyhow::Result<()> {
    let client = one.server.client()?;
    match show(&client, &one.id, output).await {
        Ok(()) => Ok(()),
        Err(error) => Err(misspelt(&client, &[one.id], error).await),
    }
}

async fn show(client: &Client, id: &str, output: Output) -> anyhow::Result<()> {
    let path = format!("/devices/{}", escape(id));
    let device: Value = client.get(&path).await?;
    let history: Vec<Value> = client.list(&format!("{path}/history"), 20).await?;
    if output.json {
        ui::line(&json!({"device": device, "history": history}).to_string());
        return Ok(());
    }
    let text = |name: &str| ui::clean(device[name].as_str().unwrap_or_default());
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            ui::line(&format!("{name:<12} {value}"));
        }
    };
    let attempt = device["attempt"].as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    line("device", text("id"));
    line("label", text("label"));
    line("chip", text("chip"));
    line("runs", format!("{} {}", text("product"), text("version")));
    line("image", text("image"));
    line("state", state(&text("state"), device["error_code"].as_str(), attempt));
    line("retired", since(&device["retired_at"]));
    line("why", ui::clean(device["report"]["error"]["detail"].as_str().unwrap_or_default()));
    line("trouble", ui::clean(device["contested"]["detail"].as_str().unwrap_or_default()));
    line("reachable", if device["reachable"] == true { "yes".into() } else { "no".into() });
    line("changed", since(&device["last_seen"]));
    for deployment in device["deployments"].as_array().into_iter().flatten() {
        let name = ui::clean(deployment["name"].as_str().unwrap_or_default());
        let standing = ui::clean(deployment["standing"].as_str().unwrap_or_default());
        line("rollout", format!("{} \"{name}\": {standing}", deployment["rollout"]));
    }
    ui::line("");
    for event in &history {
        let when = since(&event["at"]);
        ui::line(&format!("{when:>12}  {}", happened(event)));
        for step in event["steps"].as_array().into_iter().flatten() {
            let when = since(&step["at"]);
            ui::line(&format!("{when:>12}    · {}", happened(step)));
        }
    }
    Ok(())
}

fn happened(event: &Value) -> String {
    let (kind, detail) = (event["kind"].as_str().unwrap_or_default(), &event["detail"]);
    if kind != "report" {
        let with =
            |name: &str, word: &str| detail[name].as_str().map(|text| format!(" {word} {}", ui::clean(text)));
        let key = with("fleet_key", "with fleet key").unwrap_or_default();
        let from = with("address", "from").unwrap_or_default();
        return format!("{}{key}{from}", ui::clean(&kind.replace('_', " ")));
    }
    let mut text = otaru_server::devices::attempts::told(detail);
    if let Some(code) = detail["error"]["code"].as_str() {
        text.push_str(&format!("  {code}: {}", detail["error"]["detail"].as_str().unwrap_or_default()));
    }
    ui::clean(&text)
}
