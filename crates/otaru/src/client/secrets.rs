//! Tokens and fleet keys, as people name them.

use anyhow::bail;
use otaru_api::{FleetKey, Page, Timestamp, Token};
use serde::de::DeserializeOwned;

use super::http::Client;
use crate::ui;
use crate::ui::missing::missing;

/// A secret of a kind that people name by an id or a name.
pub(crate) trait Secret: DeserializeOwned + Send + 'static {
    /// Kind, in words.
    const KIND: &str;
    /// Path of the list in the API.
    const PATH: &str;

    /// Returns the id.
    fn id(&self) -> &str;
    /// Returns the name.
    fn name(&self) -> &str;
    /// Returns the time of the revocation.
    fn revoked_at(&self) -> Option<Timestamp>;
}

impl Secret for Token {
    const KIND: &str = "token";
    const PATH: &str = "/tokens";

    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn revoked_at(&self) -> Option<Timestamp> {
        self.revoked_at
    }
}

impl Secret for FleetKey {
    const KIND: &str = "fleet key";
    const PATH: &str = "/fleet-keys";

    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn revoked_at(&self) -> Option<Timestamp> {
        self.revoked_at
    }
}

/// Returns the id of a secret that was not revoked, by its id or its name.
///
/// # Errors
/// When there is none, or several are called so.
pub(crate) async fn find_good<S: Secret>(client: &Client, text: &str) -> anyhow::Result<String> {
    choose(&client.get::<Page<S>>(S::PATH).await?.items, text)
}

fn choose<S: Secret>(all: &[S], text: &str) -> anyhow::Result<String> {
    let kind = S::KIND;
    if let Some(secret) = all.iter().find(|secret| secret.id() == text) {
        if secret.revoked_at().is_some() {
            bail!("the {kind} {text} is revoked already");
        }
        return Ok(text.to_owned());
    }
    let good: Vec<&S> = all.iter().filter(|secret| secret.revoked_at().is_none()).collect();
    let named: Vec<&str> =
        good.iter().filter(|secret| secret.name() == text).map(|secret| secret.id()).collect();
    match named.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] if all.iter().any(|secret| secret.name() == text) => {
            bail!("the {kind} {} is revoked already", ui::clean(text))
        }
        [] => bail!(missing(kind, text, good.iter().map(|secret| secret.name()).collect())),
        several => bail!(
            "{} {kind}s are called {}; give one's id: {}",
            several.len(),
            ui::clean(text),
            several.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_secret_is_found_by_its_id_or_its_name() {
        let token = |id: &str, name: &str, revoked: Option<&str>| -> Token {
            serde_json::from_value(json!({
                "id": id, "name": name, "role": "viewer", "created_at": "2026-11-29T03:24:44.123Z",
                "created_by": "first", "revoked_at": revoked,
            }))
            .unwrap()
        };
        let all = [
            token("01", "wall", None),
            token("02", "build", None),
            token("03", "build", Some("2026-11-29T03:24:44.123Z")),
            token("04", "twin", None),
            token("05", "twin", None),
            token("06", "gone", Some("2026-11-29T03:24:44.123Z")),
        ];
        let found = |text: &str| choose(&all, text).map_err(|error| error.to_string());
        assert_eq!(found("01"), Ok("01".into()));
        assert_eq!(found("build"), Ok("02".into()));
        assert_eq!(found("twin"), Err("2 tokens are called twin; give one's id: 04, 05".into()));
        assert_eq!(found("gone"), Err("the token gone is revoked already".into()));
        assert_eq!(found("03"), Err("the token 03 is revoked already".into()));
        assert_eq!(found("wal"), Err("there is no token wal; did you mean wall?".into()));
    }
}
