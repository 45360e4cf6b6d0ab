//! Tokens and fleet keys, as people name them.

use anyhow::bail;
use serde_json::Value;

use super::http::Client;
use crate::ui;
use crate::ui::missing::missing;

/// The id of a secret that was not revoked, by its id or its name.
pub(crate) async fn find_good(client: &Client, kind: &str, path: &str, text: &str) -> anyhow::Result<String> {
    let all: Value = client.get(path).await?;
    let all = all["items"].as_array().cloned().unwrap_or_default();
    choose(kind, &all, text)
}

fn choose(kind: &str, all: &[Value], text: &str) -> anyhow::Result<String> {
    let is = |item: &Value, field: &str| item[field].as_str() == Some(text);
    if let Some(item) = all.iter().find(|item| is(item, "id")) {
        if !item["revoked_at"].is_null() {
            bail!("the {kind} {text} is revoked already");
        }
        return Ok(text.to_owned());
    }
    let good: Vec<&Value> = all.iter().filter(|item| item["revoked_at"].is_null()).collect();
    let id = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
    let named: Vec<&&Value> = good.iter().filter(|item| is(item, "name")).collect();
    match named.as_slice() {
        [one] => Ok(id(one)),
        [] if all.iter().any(|item| is(item, "name")) => {
            bail!("the {kind} {} is revoked already", ui::clean(text))
        }
        [] => bail!(missing(kind, text, good.iter().filter_map(|item| item["name"].as_str()).collect())),
        several => {
            let ids: Vec<String> = several.iter().map(|item| id(item)).collect();
            bail!("{} {kind}s are called {}; give one's id: {}", ids.len(), ui::clean(text), ids.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_found_by_its_id_or_its_name() {
        let item = |id: &str, name: &str, revoked: Option<&str>| json!({"id": id, "name": name, "revoked_at": revoked});
        let all = [
            item("01", "wall", None),
            item("02", "build", None),
            item("03", "build", Some("2026-11-29T03:24:44.123Z")),
            item("04", "twin", None),
            item("05", "twin", None),
            item("06", "gone", Some("2026-11-29T03:24:44.123Z")),
        ];
        let found = |text: &str| choose("token", &all, text).map_err(|error| error.to_string());
        assert_eq!(found("01"), Ok("01".into()));
        assert_eq!(found("build"), Ok("02".into()));
        assert_eq!(found("twin"), Err("2 tokens are called twin; give one's id: 04, 05".into()));
        assert_eq!(found("gone"), Err("the token gone is revoked already".into()));
        assert_eq!(found("03"), Err("the token 03 is revoked already".into()));
        assert_eq!(found("wal"), Err("there is no token wal; did you mean wall?".into()));
    }
}
