//! `otaru devices tag`: tags that devices get or lose.

use std::collections::BTreeMap;

use anyhow::bail;
use otaru_api::{Answer, ChangedDevices, DeviceQuery, TagMany};
use otaru_rollout::Tag;

use crate::client::args::ServerArgs;
use crate::client::search::{Condition, misspelt, no_device};
use crate::options::not_blank;
use crate::output::Output;
use crate::ui::{self, say};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Ids of the devices, unless --filter-… says which
    ids: Vec<String>,
    /// Tag to set: NAME or NAME=VALUE; may be given several times
    #[arg(long, value_name = "TAG")]
    set: Vec<Tag>,
    /// Name of a tag to remove; may be given several times
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Select devices whose tags match this expression
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "ids", value_parser = not_blank)]
    filter_tags: Option<String>,
    /// Select devices that run this product
    #[arg(long, value_name = "NAME", conflicts_with = "ids", value_parser = not_blank)]
    filter_product: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<()> {
    let Args { ids, set, remove, filter_tags, filter_product, server } = args;
    let verb = verb(&set, &remove)?;
    let query = DeviceQuery { tags: filter_tags, product: filter_product, ..DeviceQuery::default() };
    let conditions: Vec<Condition> = [("tags", &query.tags), ("product", &query.product)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect();
    let which = match conditions.is_empty() {
        true if ids.is_empty() => bail!("which devices? Give ids, or --filter-tags or --filter-product"),
        true => None,
        false => Some(query),
    };
    let body = TagMany { devices: ids, which, set: by_name(set), remove };
    let client = server.client()?;
    let done: Answer<ChangedDevices> = match client.post("/devices/tags", &body).await {
        Ok(done) => done,
        Err(error) => return Err(misspelt(&client, &body.devices, error).await),
    };
    match done.value.devices {
        0 => bail!("nothing is tagged: {}", no_device(&client, &conditions).await?),
        count => say(output, &done.json, &format!("{verb} {}.", ui::many(count as u64, "device"))),
    }
    Ok(())
}

/// Says what is done to the devices.
///
/// # Errors
/// When nothing is to be done, or one tag is to be set and removed.
fn verb(set: &[Tag], remove: &[String]) -> anyhow::Result<&'static str> {
    if let Some(both) = set.iter().find(|tag| remove.contains(&tag.name)) {
        bail!("the tag {0} is both set and removed; give --set or --remove for {0}", ui::clean(&both.name));
    }
    match (set.is_empty(), remove.is_empty()) {
        (true, true) => bail!("say what to do: --set TAG or --remove NAME"),
        (false, true) => Ok("Tagged"),
        (true, false) => Ok("Untagged"),
        (false, false) => Ok("Changed the tags of"),
    }
}

/// Gives tags the form that they have in the API.
pub(super) fn by_name(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|Tag { name, value }| (name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_set_or_removed() {
        let verb = |set: &[&str], remove: &[&str]| {
            let set: Vec<Tag> = set.iter().map(|text| text.parse().unwrap()).collect();
            let remove: Vec<String> = remove.iter().map(|name| (*name).to_owned()).collect();
            verb(&set, &remove).map_err(|error| error.to_string())
        };
        assert_eq!(verb(&["site=berlin"], &[]), Ok("Tagged"));
        assert_eq!(verb(&[], &["site"]), Ok("Untagged"));
        assert_eq!(verb(&["site=berlin"], &["canary"]), Ok("Changed the tags of"));
        assert!(verb(&[], &[]).is_err());
        let both = verb(&["site=berlin"], &["site"]).unwrap_err();
        assert!(both.starts_with("the tag site is both set and removed"), "{both}");
    }
}
