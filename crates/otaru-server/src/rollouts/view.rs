//! Rollouts as they are shown.

use std::collections::BTreeMap;

use otaru_api::{Gate, ReleaseInShort, Timestamp};
use otaru_rollout::{Phase, RolloutId, RolloutSpec, Tally, Verdicts};

use super::deployments;
use super::rows::{self, StoredRollout};
use crate::db::{Connection, DbError};
use crate::problem::Problem;
use crate::releases::naming;
use crate::releases::rows::ReleaseRow;

/// A rollout as it is.
#[derive(Debug, Clone)]
pub struct RolloutView {
    /// Newer ones have higher ids.
    pub id: u64,
    /// Name for people.
    pub name: String,
    /// The release it brings.
    pub release: Option<ReleaseInShort>,
    /// The rollout it takes back.
    pub undo: Option<u64>,
    /// `draft`, `scheduled`, `running`, `paused`, `stopped`, `finishing`, `completed` or `aborted`.
    pub phase: Phase,
    /// The open wave's index, from 0; those before it are open too.
    pub wave: usize,
    /// Gate between the open wave and the next: `working`, `{"soaking": since}` or `{"held": why}`.
    pub gate: otaru_rollout::GateState,
    /// Whether nothing starts because too many devices try the image again that did not reach the broker.
    pub retries_hold: bool,
    /// Numbers of deployments by standing, for each wave; those of the last wave are the last.
    pub tallies: Vec<Tally>,
    /// Numbers of devices that have shown the release to work, and to fail.
    pub verdicts: Verdicts,
    /// The verdicts that broke the stop rule, of a wave or of all; of a stopped rollout only.
    pub broke: Option<Verdicts>,
    /// Why devices failed, and how many for each reason. Of a single rollout only.
    pub reasons: Option<BTreeMap<String, u64>>,
    /// Order of the rollout.
    pub spec: RolloutSpec,
    /// Time of creation.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// Reads a release, in short.
pub(super) fn release_in_short(tx: &Connection, id: i64) -> Result<Option<ReleaseInShort>, DbError> {
    let Some(release) = ReleaseRow::of(tx, id)? else { return Ok(None) };
    let title = release.title(tx)?;
    let image_short = naming::short(release.image);
    let ReleaseRow { product, version, filename, .. } = release;
    Ok(Some(ReleaseInShort { id, product, version, title, image_short, filename }))
}

/// A rollout as it is sent.
impl From<RolloutView> for otaru_api::Rollout {
    fn from(view: RolloutView) -> Self {
        Self {
            id: view.id,
            name: view.name,
            release: view.release,
            undo: view.undo,
            phase: view.phase.into(),
            wave: view.wave,
            gate: Gate::from(view.gate).into(),
            retries_hold: view.retries_hold,
            tallies: view.tallies.into_iter().map(Into::into).collect(),
            verdicts: view.verdicts,
            broke: view.broke,
            reasons: view.reasons,
            spec: view.spec.into(),
            created_at: view.created_at,
            created_by: view.created_by,
            updated_at: view.updated_at,
        }
    }
}

impl RolloutView {
    /// Returns a rollout for people and programs.
    pub fn of(tx: &Connection, kept: StoredRollout) -> Result<Self, DbError> {
        let rollout = kept.rollout;
        let release = kept.release.map(|id| release_in_short(tx, id)).transpose()?.flatten();
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
            phase: rollout.phase(),
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
