//! Rollouts as they are shown.

use std::collections::BTreeMap;

use otaru_rollout::{RolloutId, RolloutSpec, Tally, Verdicts};
use rusqlite::Connection;
use serde::Serialize;

use super::deployments;
use super::rows::{self, StoredRollout};
use super::spec::{GateShape, GateText, SpecText};
use crate::db::DbError;
use crate::problem::Problem;
use crate::timestamp::Timestamp;

/// A rollout as it is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RolloutView {
    /// Newer ones have higher ids.
    pub id: u64,
    /// What people call it.
    pub name: String,
    /// The release it brings.
    pub release: Option<ReleaseOf>,
    /// The rollout it takes back.
    pub undo: Option<u64>,
    /// `draft`, `scheduled`, `running`, `paused`, `stopped`, `finishing`, `completed` or `aborted`.
    pub phase: String,
    /// The open wave's index, from 0; those before it are open too.
    pub wave: usize,
    /// What is between that and the next: `working`, `{"soaking": since}` or `{"held": why}`.
    #[serde(serialize_with = "GateText::serialize")]
    #[schema(value_type = GateShape)]
    pub gate: otaru_rollout::GateState,
    /// Whether nothing starts because too many devices try the image again that did not reach the broker.
    pub retries_hold: bool,
    /// How many deployments stand where, for each wave; the last one's is the last.
    #[schema(value_type = Vec<BTreeMap<String, u32>>)]
    pub tallies: Vec<Tally>,
    /// How many devices have shown that it is good, and how many that it is not.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub verdicts: Verdicts,
    /// The verdicts that broke the stop rule, of a wave or of all; of a stopped rollout only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u32>>)]
    pub broke: Option<Verdicts>,
    /// Why devices failed, and how many for each reason. Of a single rollout only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<BTreeMap<String, u64>>,
    /// What was asked for.
    #[serde(serialize_with = "SpecText::serialize")]
    #[schema(value_type = SpecText)]
    pub spec: RolloutSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A release, in short.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ReleaseOf {
    /// Its id.
    pub id: i64,
    /// Its product.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Product and version and, where another release for the chip has the same, the first digits of the image.
    pub title: String,
    /// The first eight digits of its image.
    pub image_short: String,
    /// Name of the file it came in.
    pub filename: Option<String>,
}

impl ReleaseOf {
    pub(super) fn read(tx: &Connection, id: i64) -> Result<Option<Self>, DbError> {
        let release = crate::releases::rows::get(tx, id)?;
        Ok(release.map(|release| Self {
            id,
            product: release.product,
            version: release.version,
            title: release.title,
            image_short: release.image_short,
            filename: release.filename,
        }))
    }
}

impl RolloutView {
    /// Returns a rollout for people and programs.
    pub fn of(tx: &Connection, kept: StoredRollout) -> Result<Self, DbError> {
        let rollout = kept.rollout;
        let release = kept.release.map(|id| ReleaseOf::read(tx, id)).transpose()?.flatten();
        let undo = match rollout.spec().goal {
            otaru_rollout::Goal::Undo { rollout, .. } => Some(rollout.0),
            otaru_rollout::Goal::Image(_) => None,
        };
        let broke = match rollout.phase() {
            otaru_rollout::Phase::Stopped => rows::broke(tx, rollout.id())?,
            _ => None,
        };
        Ok(Self {
            id: rollout.id().0,
            name: kept.name,
            release,
            undo,
            phase: rollout.phase().as_str().to_owned(),
            wave: rollout.wave(),
            gate: rollout.gate(),
            retries_hold: rollout.phase() == otaru_rollout::Phase::Running && rollout.is_held_by_retries(),
            tallies: rollout.tallies().to_vec(),
            verdicts: rollout.verdicts(),
            broke,
            reasons: None,
            spec: rollout.spec().clone(),
            created_at: kept.created_at,
            created_by: kept.created_by,
            updated_at: kept.updated_at,
        })
    }

    /// Returns the rollout of this id, with why devices failed.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(tx: &Connection, id: RolloutId) -> Result<Self, Problem> {
        let kept = rows::get(tx, id)?.ok_or_else(|| Problem::not_found(format_args!("rollout {}", id.0)))?;
        let reasons = deployments::reasons(tx, id)?;
        Ok(Self { reasons: Some(reasons), ..Self::of(tx, kept)? })
    }
}
