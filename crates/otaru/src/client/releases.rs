//! Releases as the command line names and finds them.

use anyhow::bail;
use serde_json::Value;

use super::answer::moment;
use super::http::Client;
use crate::moment::ago;
use crate::percent::escape;
use crate::ui;
use crate::ui::missing::missing;

/// Product and version of a release and, where another one looks alike, digits of its image.
pub(crate) fn title(release: &Value) -> String {
    ui::clean(release["title"].as_str().unwrap_or("?"))
}

/// Whether a release that was yanked is what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yanked {
    Taken,
    Refused,
}

/// A release by its id, or by `PRODUCT@VERSION`. Of several of one name those that were not yanked count, if there are any.
pub(crate) async fn find(client: &Client, text: &str, yanked: Yanked) -> anyhow::Result<Value> {
    if let Ok(id) = text.parse::<u64>() {
        let release: Value = client.get(&format!("/releases/{id}")).await?;
        return not_yanked(release, text, yanked);
    }
    let Some((product, version)) = text.split_once('@') else {
        bail!("a release is named by its id, or as PRODUCT@VERSION; `otaru release list` shows both");
    };
    let path = format!("/releases?product={}&version={}", escape(product), escape(version));
    let mut found: Vec<Value> = client.list(&path, 10).await?;
    if found.iter().any(|release| release["yanked_at"].is_null()) {
        found.retain(|release| release["yanked_at"].is_null());
    }
    match found.as_slice() {
        [release] => {
            let release: Value = client.get(&format!("/releases/{}", release["id"])).await?;
            not_yanked(release, text, yanked)
        }
        [] => {
            let all: Vec<Value> = client.list("/releases", 1_000).await?;
            let names: Vec<String> = all.iter().map(name).collect();
            bail!(missing("release", text, names.iter().map(String::as_str).collect()))
        }
        several => {
            let ids = several.iter().map(|release| format!("{} ({})", release["id"], marks(release)));
            bail!(
                "several releases are called {}; give the id of one: {}",
                ui::clean(text),
                ids.collect::<Vec<_>>().join(", ")
            )
        }
    }
}

fn not_yanked(release: Value, text: &str, yanked: Yanked) -> anyhow::Result<Value> {
    match moment(&release["yanked_at"]).filter(|_| yanked == Yanked::Refused) {
        None => Ok(release),
        Some(at) => bail!(
            "{} was yanked {}: it is offered to nobody; `otaru release unyank {}` offers it again",
            ui::clean(text),
            ago(at),
            release["id"]
        ),
    }
}

/// A release as it is named on the command line.
fn name(release: &Value) -> String {
    let text = |name: &str| release[name].as_str().unwrap_or_default();
    format!("{}@{}", text("product"), text("version"))
}

/// Marks that tell a release from others that are called alike: chip, digits of its image, file name.
pub(crate) fn marks(release: &Value) -> String {
    let parts = ["chip", "image_short", "filename"].into_iter().filter_map(|name| release[name].as_str());
    parts.map(ui::clean).collect::<Vec<_>>().join(", ")
}
