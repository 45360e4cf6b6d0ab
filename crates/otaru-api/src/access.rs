//! Tokens of people and scripts, fleet keys of devices, and the audit log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::{Name, Named};
use crate::timestamp::Timestamp;

/// Rights of a token; each role has those of the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything but secrets.
    Viewer,
    /// Also change devices, upload releases and run rollouts.
    Operator,
    /// Also tokens, fleet keys and device credentials.
    Admin,
}

impl Role {
    /// All roles, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Returns the role of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Returns the name, the same as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Named for Role {
    fn of_name(name: &str) -> Option<Self> {
        Self::of_name(name)
    }

    fn name(self) -> &'static str {
        self.as_str()
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The token that a request was made with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Me {
    /// Id of the token.
    pub token: String,
    /// Name.
    pub name: String,
    /// Role.
    #[cfg_attr(feature = "schema", schema(value_type = Role))]
    pub role: Name<Role>,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Token {
    /// Id.
    pub id: String,
    /// Purpose, in its owner's words.
    pub name: String,
    /// Role.
    #[cfg_attr(feature = "schema", schema(value_type = Role))]
    pub role: Name<Role>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Name of the token that created it.
    pub created_by: String,
    /// Time at which it ends.
    pub expires_at: Option<Timestamp>,
    /// Time of its last use, to the minute.
    pub used_at: Option<Timestamp>,
    /// Time of its revocation.
    pub revoked_at: Option<Timestamp>,
}

/// A token as it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Purpose.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 100))]
    pub name: String,
    /// Role.
    pub role: Role,
    /// Time at which it ends; without, it is good until it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// A token that was just created.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// The token, without its secret.
    #[serde(flatten)]
    pub token: Token,
    /// The token itself; it is shown this once.
    pub text: String,
}

/// A fleet key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FleetKey {
    /// Id.
    pub id: String,
    /// Purpose, in its owner's words.
    pub name: String,
    /// Tags for devices that register with it.
    pub tags: BTreeMap<String, String>,
    /// Number of devices that registered or were claimed with it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub devices: u64,
    /// Maximum number of devices; `null` for the server's own limit.
    pub max_devices: Option<u64>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Name of the token that created it.
    pub created_by: String,
    /// Time of its revocation. Devices that came with it are let in no more, unless they have a login of their own.
    pub revoked_at: Option<Timestamp>,
}

/// A fleet key as it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewFleetKey {
    /// Purpose.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 100))]
    pub name: String,
    /// Tags for devices that register with it.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Maximum number of devices; the server's own limit, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 9007199254740991_i64))]
    pub max_devices: Option<u64>,
}

/// A fleet key that was just created.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CreatedFleetKey {
    /// The fleet key, without its secret.
    #[serde(flatten)]
    pub key: FleetKey,
    /// The key itself; it is shown this once.
    pub text: String,
    /// Remarks for people: what is to be done beside at a broker that decides by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Id; newer entries have higher ones.
    pub id: i64,
    /// Time of the action.
    pub at: Timestamp,
    /// Name of the token that was used.
    pub actor: String,
    /// Action: `rollout.pause` …
    pub action: String,
    /// Object: `rollout/17` …
    pub object: String,
    /// Details, if any.
    #[cfg_attr(feature = "schema", schema(value_type = Option<AuditDetail>))]
    pub detail: Value,
}

/// Details of an entry in the API's description.
#[cfg(feature = "schema")]
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(
    description = "Fields that depend on the action; one word, such as `pause`, of an action on a rollout that has none."
)]
#[expect(dead_code, reason = "it describes what is written as a `Value`")]
enum AuditDetail {
    Fields(std::collections::BTreeMap<String, Value>),
    Word(String),
}
