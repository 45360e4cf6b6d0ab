//! One deployment with all that a step of it touches: three rows of a database, however large the fleet is.

use crate::deployment::{Deployment, Event};
use crate::effect::Effect;
use crate::gate;
use crate::occupancy::Occupancy;
use crate::rollout::Rollout;
use crate::tally::Standing;
use crate::time::Time;

/// A deployment, its rollout and its device's occupancy. Keep all three in one transaction.
#[derive(Debug)]
pub struct DeploymentStep<'a> {
    /// The rollout.
    pub rollout: &'a mut Rollout,
    /// One of its deployments.
    pub deployment: &'a mut Deployment,
    /// That of the deployment's device.
    pub occupancy: &'a mut Occupancy,
}

impl DeploymentStep<'_> {
    /// Takes what happens to the deployment. What a deployment of another rollout is told changes nothing.
    pub fn step(&mut self, event: &Event, now: Time) -> Vec<Effect> {
        if self.deployment.rollout != self.rollout.id {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let from = self.deployment.standing();
        self.deployment.take(event, self.rollout, now, &mut effects);
        let to = self.deployment.standing();
        if from != to {
            self.rollout.moved(self.deployment.wave, Some(from), to);
        }
        if from != to && matches!(to, Standing::Finished(outcome) if outcome.is_good()) {
            self.occupancy.brought_by = Some(self.rollout.id);
        }
        if !self.deployment.is_active() && self.occupancy.active == Some(self.rollout.id) {
            self.occupancy.active = None;
        }
        gate::evaluate(self.rollout, now, &mut effects);
        effects
    }
}
