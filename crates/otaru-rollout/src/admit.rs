//! Admission of devices to a rollout.

use std::fmt;

use otaru_format::digest::Digest;

use crate::deployment::Deployment;
use crate::effect::Effect;
use crate::ids::RolloutId;
use crate::percent::Position;
use crate::rollout::Rollout;
use crate::spec::{Goal, WaveSize};
use crate::tally::Standing;
use crate::target::Device;

/// A deployment that the device has in another rollout, and that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The rollout.
    pub rollout: RolloutId,
    /// Priority.
    pub priority: i32,
}

impl Overlap {
    /// Describes a deployment of this rollout, unless it is over, or as good as that: what a rollout that has ended did not start is
    /// cancelled, and only not told to every deployment yet.
    pub fn with(rollout: &Rollout, deployment: &Deployment) -> Option<Self> {
        let is_waiting = matches!(deployment.standing(), Standing::Ready | Standing::Waiting);
        let counts = deployment.is_active() || is_waiting && rollout.phase.is_open();
        counts.then_some(Self { rollout: rollout.id, priority: rollout.spec.priority })
    }
}

/// Why a device does not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The rollout takes nobody: it has not begun, or is over.
    Closed,
    /// The device is not meant.
    NotTargeted,
    /// It runs the goal already.
    Current,
    /// There is nothing to go back to: it is not known what it ran before.
    NothingBefore,
    /// A rollout that comes before this one has a deployment of it, or a newer one brought it to what it runs.
    Outranked(RolloutId),
    /// The deployment is over, and does not begin again.
    Over,
    /// The running image is on trial, and may still go back by itself.
    OnTrial,
    /// It has rolled the image back.
    RolledBack,
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the rollout takes no devices"),
            Self::NotTargeted => f.write_str("the device is not a target"),
            Self::Current => f.write_str("the device runs this image already"),
            Self::NothingBefore => f.write_str("it is not known what the device ran before"),
            Self::Outranked(rollout) => write!(f, "rollout {} comes first", rollout.0),
            Self::Over => f.write_str("the device's deployment is over"),
            Self::OnTrial => f.write_str("the device's image is on trial"),
            Self::RolledBack => f.write_str("the device has rolled the image back"),
        }
    }
}

impl std::error::Error for NotAdmitted {}

/// Takes a device into a rollout: gives its new deployment, queued, and what to do.
///
/// The caller keeps to one deployment for each rollout and device: a device that has one here is not admitted again, but may be
/// [taken back](crate::DeploymentStep::take_back) when it is over. `others` are its deployments in other rollouts. `before`
/// matters for [`Goal::Undo`] only: the [`previous`](Deployment::previous) image of the device's deployment in the rollout that
/// is undone.
///
/// # Errors
/// Returns the reason if the device does not join; the rollout is then unchanged.
pub fn admit(
    rollout: &mut Rollout,
    device: &Device<'_>,
    others: &[Overlap],
    before: Option<Digest>,
) -> Result<(Deployment, Vec<Effect>), NotAdmitted> {
    is_for(rollout, device)?;
    let image = rollout.image_for(before).ok_or(NotAdmitted::NothingBefore)?;
    if image == device.image {
        return Err(NotAdmitted::Current);
    }
    comes_first(rollout, device, others)?;
    let position = Position::of(device.id.as_str(), &rollout.spec.salt, "wave");
    let wave = wave_of(rollout, position);
    let deployment = Deployment::new(rollout.id, device, image, wave, position);
    rollout.moved(wave, None, deployment.standing());
    Ok((deployment, supersede(rollout, device, others)))
}

/// Whether the rollout takes this device as far as it is concerned.
pub(crate) fn is_for(rollout: &Rollout, device: &Device<'_>) -> Result<(), NotAdmitted> {
    if !rollout.phase.is_open() {
        return Err(NotAdmitted::Closed);
    }
    let spec = &rollout.spec;
    let undone = match spec.goal {
        Goal::Image(_) => true,
        Goal::Undo { image, .. } => image == device.image,
    };
    if undone && spec.target.matches(device, &spec.salt) { Ok(()) } else { Err(NotAdmitted::NotTargeted) }
}

/// Whether no other rollout comes before this one for the device. One that is over counts for as long as the device runs what it
/// brought: an older rollout that takes whoever joins must not undo a newer one.
pub(crate) fn comes_first(
    rollout: &Rollout,
    device: &Device<'_>,
    others: &[Overlap],
) -> Result<(), NotAdmitted> {
    let outranked = others.iter().find(|other| !rollout.outranks(other.rollout, other.priority));
    let newer = device.brought_by.filter(|by| *by > rollout.id);
    match outranked.map(|other| other.rollout).or(newer) {
        Some(other) => Err(NotAdmitted::Outranked(other)),
        None => Ok(()),
    }
}

/// Makes the effects that end the device's other deployments.
pub(crate) fn supersede(rollout: &Rollout, device: &Device<'_>, others: &[Overlap]) -> Vec<Effect> {
    let supersede = |other: &Overlap| Effect::Supersede {
        device: device.id.clone(),
        rollout: other.rollout,
        by: rollout.id,
    };
    others.iter().map(supersede).collect()
}

/// The first wave that has room for it. One that is past still has: what it tried is then known to be good.
fn wave_of(rollout: &Rollout, position: Position) -> usize {
    let has_room = |(index, size): (usize, WaveSize)| match size {
        WaveSize::Devices(most) => rollout.tally(index).total() < most,
        WaveSize::Percent(share) => position.is_within(share),
    };
    let waves = &rollout.spec.waves;
    waves.iter().map(|wave| wave.size).enumerate().position(has_room).unwrap_or(waves.len())
}
