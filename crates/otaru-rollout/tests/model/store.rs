//! Rows that a server keeps, and every call of the engine as data: so that a history can be played again.

use std::collections::BTreeMap;

use otaru_rollout::{
    Control, Deployment, DeploymentStep, Device, DeviceId, Effect, Event, Goal, Occupancy, Overlap, Report,
    Rollout, RolloutId, RolloutSpec, Tags, Time, admit,
};
use serde::{Deserialize, Serialize};

pub(crate) type Key = (RolloutId, DeviceId);

/// A device as the registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) id: DeviceId,
    pub(crate) tags: Tags,
    /// The newest report.
    pub(crate) report: Report,
    pub(crate) reachable: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Call {
    Create(RolloutId, Box<RolloutSpec>),
    Control(RolloutId, Control),
    Join(RolloutId, Facts),
    Start(RolloutId, DeviceId),
    Event(RolloutId, DeviceId, Event),
}

/// The tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) rollouts: BTreeMap<RolloutId, Rollout>,
    pub(crate) deployments: BTreeMap<Key, Deployment>,
    pub(crate) occupancy: BTreeMap<DeviceId, Occupancy>,
}

impl Store {
    /// Makes a call; `None` when the engine declines it.
    pub(crate) fn apply(&mut self, call: &Call, now: Time) -> Option<Vec<Effect>> {
        match call {
            Call::Create(id, spec) => {
                let rollout =
                    Rollout::new(*id, *spec.clone(), now).expect("the model makes good specifications");
                self.rollouts.insert(*id, rollout);
                Some(Vec::new())
            }
            Call::Control(id, control) => self.rollouts.get_mut(id)?.step(*control, now).ok(),
            Call::Join(id, facts) => self.join(*id, facts),
            Call::Start(id, device) => self.case(*id, device)?.start(now).ok(),
            Call::Event(id, device, event) => Some(self.case(*id, device)?.step(event, now)),
        }
    }

    fn case(&mut self, id: RolloutId, device: &DeviceId) -> Option<DeploymentStep<'_>> {
        Some(DeploymentStep {
            rollout: self.rollouts.get_mut(&id)?,
            deployment: self.deployments.get_mut(&(id, device.clone()))?,
            occupancy: self.occupancy.get_mut(device)?,
        })
    }

    fn join(&mut self, id: RolloutId, facts: &Facts) -> Option<Vec<Effect>> {
        let key = (id, facts.id.clone());
        let others: Vec<Overlap> = self
            .of_device(&facts.id)
            .filter_map(|deployment| Overlap::with(&self.rollouts[&deployment.rollout()], deployment))
            .collect();
        let before = match self.rollouts.get(&id)?.spec().goal {
            Goal::Undo { rollout, .. } => {
                self.deployments.get(&(rollout, facts.id.clone())).map(Deployment::previous)
            }
            Goal::Image(_) => None,
        };
        let device = Device {
            id: &facts.id,
            tags: &facts.tags,
            chip: "esp32c3",
            product: "lamp",
            version: "1.0.0",
            image: facts.report.image,
            reachable: facts.reachable,
            brought_by: self.brought_by(facts),
        };
        if self.deployments.contains_key(&key) {
            return self.case(id, &facts.id)?.take_back(&device, &facts.report, &others).ok();
        }
        let (deployment, effects) = admit(self.rollouts.get_mut(&id)?, &device, &others, before).ok()?;
        self.occupancy.entry(facts.id.clone()).or_default();
        self.deployments.insert(key, deployment);
        Some(effects)
    }

    /// The rollout that brought the device to what it runs.
    fn brought_by(&self, facts: &Facts) -> Option<RolloutId> {
        let by = self.occupancy.get(&facts.id)?.brought_by?;
        let deployment = self.deployments.get(&(by, facts.id.clone()))?;
        (deployment.image() == facts.report.image).then_some(by)
    }

    pub(crate) fn of_device<'a>(&'a self, device: &'a DeviceId) -> impl Iterator<Item = &'a Deployment> {
        self.deployments.values().filter(move |deployment| deployment.device() == device)
    }

    pub(crate) fn of_rollout(&self, id: RolloutId) -> impl Iterator<Item = &Deployment> {
        self.deployments.values().filter(move |deployment| deployment.rollout() == id)
    }

    /// Everything through JSON and back, as if another server took over.
    pub(crate) fn reload(&mut self) {
        self.rollouts.values_mut().for_each(through_json);
        self.deployments.values_mut().for_each(through_json);
        self.occupancy.values_mut().for_each(through_json);
    }
}

pub(crate) fn is_over(deployment: &Deployment) -> bool {
    matches!(deployment.stage(), otaru_rollout::Stage::Finished(_))
}

fn through_json<T: Serialize + for<'de> Deserialize<'de>>(value: &mut T) {
    let text = serde_json::to_string(value).expect("state is JSON");
    *value = serde_json::from_str(&text).expect("state leads back");
}
