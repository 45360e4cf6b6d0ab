//! Makes a rollout, or says why it would be for nobody.

use anyhow::bail;
use serde_json::Value;

use crate::client::http::Client;
use crate::client::search::{Condition, no_device, unknown_devices};
use crate::ui;

/// Makes a rollout, unless it would be for no device. One that is for devices which are yet to come is made all the same, with a word
/// about it: a draft, one that starts later, one that is continuous.
pub(crate) async fn create(client: &Client, body: Value) -> anyhow::Result<Value> {
    let found: Value = client.post("/rollouts/preview", body.clone()).await?;
    if let Some(why) = nobody(client, &body, &found).await? {
        match body["continuous"] == true || body["draft"] == true || !body["start_at"].is_null() {
            true => ui::warn(&why),
            false => {
                bail!("{why}\nno rollout was made; with --continuous one waits for devices that come later")
            }
        }
    }
    client.post("/rollouts", body).await
}

/// Why a rollout is for no device, or not for all that it names; `None` where it is.
pub(crate) async fn nobody(client: &Client, body: &Value, found: &Value) -> anyhow::Result<Option<String>> {
    let target = &body["target"];
    let named: Vec<String> = target["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if let Some(unknown) = unknown_devices(client, &named).await?.filter(|_| !named.is_empty()) {
        return Ok(Some(unknown));
    }
    if found["devices"].as_u64().unwrap_or(0) > 0 {
        return Ok(None);
    }
    let text = |name: &str| target[name].as_str().map(str::to_owned);
    let chip = target["chips"][0].as_str().map(str::to_owned);
    let conditions: Vec<Condition> = [
        ("tags", text("tags")),
        ("versions", text("versions")),
        ("product", text("product")),
        ("chip", chip),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    if !body["undo"].is_null() {
        return Ok(Some(format!(
            "no device that fits has anything to go back to from rollout {}",
            body["undo"]
        )));
    }
    let why = no_device(client, &conditions).await?;
    Ok(Some(match (target["percent"].as_f64(), named.is_empty()) {
        (Some(percent), _) if conditions.is_empty() => format!("a share of {percent}% comes to no device"),
        (_, false) => format!("none of the devices named fits; {why}"),
        _ => why,
    }))
}
