//! `otaru devices show`: all that is known of a device, and its history.

use otaru_api::{Answer, DeviceDetails, DeviceEvent, EventDetail};
use otaru_format::status::Status;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::one::One;
use crate::client::http::Client;
use crate::client::search::misspelt;
use crate::moment::{ago, since};
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
    let device: Answer<DeviceDetails> = client.get(&path).await?;
    let history: Vec<Answer<DeviceEvent>> = client.list(&format!("{path}/history"), 20).await?;
    if output.json {
        let history: Vec<Value> = history.into_iter().map(|event| event.json).collect();
        ui::line(&json!({"device": device.json, "history": history}).to_string());
        return Ok(());
    }
    tell(&device.value);
    ui::line("");
    for Answer { value: event, .. } in &history {
        ui::line(&format!("{:>12}  {}", ago(event.at), happened(&event.kind, &event.detail)));
        for step in &event.steps {
            ui::line(&format!("{:>12}    · {}", ago(step.at), happened(&step.kind, &step.detail)));
        }
    }
    Ok(())
}

fn tell(details: &DeviceDetails) {
    let device = &details.device;
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            ui::line(&format!("{name:<12} {value}"));
        }
    };
    let text = |name: &str, text: &str| line(name, &ui::clean(text));
    text("device", &device.id);
    text("label", device.label.as_deref().unwrap_or_default());
    text("chip", &device.chip);
    text("runs", &format!("{} {}", device.product, device.version));
    text("image", device.image.as_deref().unwrap_or_default());
    line("state", &state(device));
    line("retired", &since(device.retired_at));
    text("why", &why(details).unwrap_or_default());
    text("trouble", details.contested.as_ref().map_or("", |contested| &contested.detail));
    for ca in &details.trusts {
        text("trusts", &ca.title());
    }
    for certificate in &details.certificates {
        text("certificate", &certificate.title());
    }
    line("reachable", if device.reachable { "yes" } else { "no" });
    line("changed", &since(device.last_seen));
    for deployment in &details.deployments {
        text("rollout", &format!("{} \"{}\": {}", deployment.rollout, deployment.name, deployment.standing));
    }
}

/// Returns the device's own words for what is wrong with it.
fn why(details: &DeviceDetails) -> Option<String> {
    let report = Status::<String>::deserialize(details.report.as_ref()?).ok()?;
    report.error.map(|error| error.detail)
}

fn happened(kind: &str, detail: &Value) -> String {
    let told = EventDetail::read(detail);
    if kind != "report" {
        let with = |text: Option<String>, word: &str| {
            text.map_or_else(String::new, |text| format!(" {word} {text}"))
        };
        let key = with(told.fleet_key, "with fleet key");
        let from = with(told.address, "from");
        return ui::clean(&format!("{}{key}{from}", kind.replace('_', " ")));
    }
    let mut text = otaru_server::devices::attempts::told(detail);
    if let Some(failure) = told.error {
        text.push_str(&format!("  {}: {}", failure.code, failure.detail));
    }
    ui::clean(&text)
}
