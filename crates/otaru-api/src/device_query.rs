//! Queries for devices, as they stand in a URL or a body.

use serde::{Deserialize, Serialize};

/// Conditions on devices; a device is meant that meets all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams, utoipa::ToSchema))]
#[cfg_attr(feature = "schema", into_params(parameter_in = Query))]
#[serde(default)]
pub struct DeviceQuery {
    /// Part of the id or name.
    pub q: Option<String>,
    /// Expression of tags, such as `site=berlin and not canary`.
    pub tags: Option<String>,
    /// Product.
    pub product: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Range of versions, such as `>=1.0.0, <2.0.0`.
    pub versions: Option<String>,
    /// Chip, such as `esp32c3`.
    pub chip: Option<String>,
    /// SHA-256 of the running image, in hex.
    pub image: Option<String>,
    /// State, such as `rolled_back`.
    pub state: Option<String>,
    /// Health: `well`, `updating`, `troubled` or `away`.
    pub health: Option<String>,
    /// Whether it can be reached.
    pub reachable: Option<bool>,
    /// CA that it trusts over TLS and no other: SHA-256 of its certificate, in hex, or the first 16 digits.
    pub only_trusts: Option<String>,
    /// Code of the last failure, such as `panic`.
    pub error: Option<String>,
    /// Rollout in which it has a deployment.
    pub rollout: Option<i64>,
    /// State of that deployment, only with `rollout`: `ready`, `waiting`, `active`, `succeeded`, `failed` …
    pub standing: Option<String>,
    /// Whether retired devices are listed instead of the others.
    pub retired: bool,
}

/// A query in a body. Here a name that is none is an error, and so is an empty text: a query that leaves it out would mean more devices
/// than whoever misspelt it, or whose script had nothing to put there.
pub(crate) mod strict {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::{Map, Value};

    use super::DeviceQuery;

    /// Writes the conditions that are given: a server of an older version does not know all of them.
    pub(crate) fn serialize<S: Serializer>(query: &Option<DeviceQuery>, out: S) -> Result<S::Ok, S::Error> {
        let mut query = serde_json::to_value(query).map_err(S::Error::custom)?;
        if let Some(conditions) = query.as_object_mut() {
            let is_usual = |name: &str, value: &Value| value.is_null() || name == "retired" && value == false;
            conditions.retain(|name, value| !is_usual(name, value));
        }
        query.serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(body: D) -> Result<Option<DeviceQuery>, D::Error> {
        let Some(given) = Option::<Map<String, Value>>::deserialize(body)? else { return Ok(None) };
        let known = serde_json::to_value(DeviceQuery::default()).map_err(D::Error::custom)?;
        if let Some(name) = given.keys().find(|name| known.get(name.as_str()).is_none()) {
            return Err(D::Error::custom(format!("unknown field `{name}` in `which`")));
        }
        let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        if let Some((name, _)) = given.iter().find(|(_, value)| is_blank(value)) {
            let words = format!("`{name}` in `which` is empty; leave it out where it does not matter");
            return Err(D::Error::custom(words));
        }
        serde_json::from_value(Value::Object(given)).map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TagMany;

    #[test]
    fn a_query_in_a_body_has_only_what_is_given() {
        let which =
            DeviceQuery { tags: Some("canary".into()), reachable: Some(false), ..DeviceQuery::default() };
        let body = TagMany { which: Some(which.clone()), ..TagMany::default() };
        let sent = serde_json::to_value(body).unwrap();
        assert_eq!(sent["which"], json!({"tags": "canary", "reachable": false}));
        assert_eq!(serde_json::from_value::<TagMany>(sent).unwrap().which, Some(which));
        let none = serde_json::to_value(TagMany::default()).unwrap();
        assert_eq!(none["which"], json!(null));
        assert_eq!(serde_json::from_value::<TagMany>(none).unwrap().which, None);
    }

    #[test]
    fn a_query_in_a_body_is_read_strictly() {
        for (which, why) in [
            (json!({"tag": "canary"}), "unknown field `tag` in `which`"),
            (json!({"tags": " "}), "`tags` in `which` is empty"),
        ] {
            let error = serde_json::from_value::<TagMany>(json!({"which": which})).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
