//! Return of devices that a rollout was done with.

use crate::admit::{self, NotAdmitted, Overlap};
use crate::effect::Effect;
use crate::report::Report;
use crate::stage::{Outcome, Stage};
use crate::step::DeploymentStep;
use crate::target::Device;

/// Most times that a device is taken in again for the same image. What goes back that often will do so again, and each time costs a
/// download and wears its flash.
pub const MAX_RETURNS: u8 = 3;

impl DeploymentStep<'_> {
    /// Queues a deployment again that is over, if its device is the rollout's again: one that was retired and is not any more; or,
    /// in a rollout that is [`continuous`](crate::RolloutSpec::continuous), one that was brought to its image here and, says its
    /// newest `report`, runs another now, as somebody flashed it by cable or its flash lost what it had. The
    /// [fourth time](MAX_RETURNS) that ends as [`KeepsGoingBack`](Outcome::KeepsGoingBack) instead. `others` are the device's
    /// deployments in other rollouts that are not over.
    ///
    /// # Errors
    /// Returns the reason if the deployment is not queued again; nothing has then changed. It is not queued again after another
    /// rollout has brought the device to an image, after the device failed here, or after it rolled the image back.
    pub fn take_back(
        &mut self,
        device: &Device<'_>,
        report: &Report,
        others: &[Overlap],
    ) -> Result<Vec<Effect>, NotAdmitted> {
        if self.deployment.rollout != self.rollout.id || self.deployment.device != *device.id {
            return Err(NotAdmitted::Over);
        }
        let went_back = match self.deployment.stage {
            Stage::Finished(Outcome::Removed) => false,
            Stage::Finished(outcome) if outcome.is_good() && self.rollout.spec.continuous => true,
            _ => return Err(NotAdmitted::Over),
        };
        admit::is_for(self.rollout, device)?;
        if device.image == self.deployment.image {
            return Err(NotAdmitted::Current);
        }
        if went_back {
            self.went_back(report)?;
        }
        admit::comes_first(self.rollout, device, others)?;
        let from = self.deployment.standing();
        let effects = if went_back && self.deployment.returns >= MAX_RETURNS {
            let mut effects = Vec::new();
            self.deployment.finish(Outcome::KeepsGoingBack, &mut effects);
            effects
        } else {
            self.deployment.come_back(device.reachable, went_back);
            admit::supersede(self.rollout, device, others)
        };
        self.rollout.moved(self.deployment.wave, Some(from), self.deployment.standing());
        Ok(effects)
    }

    /// Whether the device lost the image, rather than was given another or rolled it back.
    fn went_back(&self, report: &Report) -> Result<(), NotAdmitted> {
        let image = self.deployment.image;
        if report.image == image {
            return Err(NotAdmitted::Current);
        }
        if !report.confirmed {
            return Err(NotAdmitted::OnTrial);
        }
        // Zeros stand for an image that could not be read.
        if report.rolled_back.is_some_and(|failed| failed == image || failed.is_zero()) {
            return Err(NotAdmitted::RolledBack);
        }
        match self.occupancy.brought_by {
            Some(by) if by != self.rollout.id => Err(NotAdmitted::Outranked(by)),
            _ => Ok(()),
        }
    }
}
