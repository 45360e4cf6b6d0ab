//! Servers that share a database.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A server, as those that share its database see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServerMember {
    /// Id, anew with each start.
    pub id: String,
    /// Beginning of its URLs.
    pub name: String,
    /// The broker that it uses.
    pub broker: String,
    /// Version of the program.
    pub version: String,
    /// Time of its start.
    pub started_at: Timestamp,
    /// Time at which it was last heard, by the database's clock.
    pub seen_at: Timestamp,
    /// Milliseconds that its clock was ahead of the database's then, negative where it was behind; none of a server that has its database to
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Time since which it is without the broker, by the database's clock; none of one that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_away_since: Option<Timestamp>,
    /// Number of the fleet's 256 shards whose devices are its own.
    pub shards: u16,
    /// Tasks that it does for all: `rollouts`, `jobs`, `home assistant`.
    pub tasks: Vec<String>,
    /// Whether it is the one that answers.
    pub answers: bool,
}

/// The servers that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Servers {
    /// By name.
    pub items: Vec<ServerMember>,
}
