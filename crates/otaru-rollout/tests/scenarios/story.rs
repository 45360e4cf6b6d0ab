//! A rollout, its devices and the clock, for stories; and what devices say in them.

use std::collections::BTreeMap;

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, UpdateState};
use otaru_rollout::{
    Control, Deployment, DeploymentStep, Device, DeviceId, Effect, Event, NotAdmitted, NotNow, Notice,
    Occupancy, Outcome, Overlap, Report, Rollout, RolloutId, RolloutSpec, Span, Stage, Tags, Time, admit,
};

pub(crate) const NOON: Time = Time(20_000 * 86_400_000 + 12 * 3_600_000);

pub(crate) fn old() -> Digest {
    Digest::of(b"old")
}

pub(crate) fn new() -> Digest {
    Digest::of(b"new")
}

/// One rollout, its deployments, and the clock.
pub(crate) struct Story {
    pub(crate) rollout: Rollout,
    pub(crate) deployments: BTreeMap<DeviceId, Deployment>,
    pub(crate) occupancy: BTreeMap<DeviceId, Occupancy>,
    pub(crate) now: Time,
    pub(crate) effects: Vec<Effect>,
}

pub(crate) fn spec(json: &str) -> RolloutSpec {
    let goal = format!(r#""goal": {{"image": "{}"}}"#, new());
    let comma = if json.is_empty() { "" } else { ", " };
    serde_json::from_str(&format!("{{{goal}{comma}{json}}}")).unwrap()
}

impl Story {
    /// A running rollout with these devices, all of which can be reached.
    pub(crate) fn new(json: &str, devices: &[&str]) -> Self {
        let mut story = Self::draft(spec(json));
        story.control(Control::Start);
        for device in devices {
            story.join(device, true).unwrap();
        }
        story.control(Control::Scanned(1));
        story
    }

    pub(crate) fn draft(spec: RolloutSpec) -> Self {
        Self {
            rollout: Rollout::new(RolloutId(1), spec, NOON).unwrap(),
            deployments: BTreeMap::new(),
            occupancy: BTreeMap::new(),
            now: NOON,
            effects: Vec::new(),
        }
    }

    pub(crate) fn control(&mut self, control: Control) {
        self.effects = self.rollout.step(control, self.now).unwrap();
    }

    pub(crate) fn pass(&mut self, span: Span) {
        self.now = self.now + span;
        self.control(Control::Tick);
    }

    pub(crate) fn join(&mut self, id: &str, reachable: bool) -> Result<(), NotAdmitted> {
        self.join_with(id, reachable, old(), &[], None)
    }

    pub(crate) fn join_with(
        &mut self,
        id: &str,
        reachable: bool,
        image: Digest,
        others: &[Overlap],
        before: Option<Digest>,
    ) -> Result<(), NotAdmitted> {
        let (id, tags) = (DeviceId::from(id), Tags::new());
        let device = Device {
            id: &id,
            tags: &tags,
            chip: "esp32",
            product: "lamp",
            version: "1.0.0",
            image,
            reachable,
            brought_by: None,
        };
        let (deployment, effects) = admit(&mut self.rollout, &device, others, before)?;
        self.effects = effects;
        self.occupancy.insert(id.clone(), Occupancy::default());
        self.deployments.insert(id, deployment);
        Ok(())
    }

    pub(crate) fn case(&mut self, id: &str) -> DeploymentStep<'_> {
        let id = DeviceId::from(id);
        DeploymentStep {
            rollout: &mut self.rollout,
            deployment: self.deployments.get_mut(&id).unwrap(),
            occupancy: self.occupancy.get_mut(&id).unwrap(),
        }
    }

    pub(crate) fn start(&mut self, id: &str) -> Result<(), NotNow> {
        let now = self.now;
        self.effects = self.case(id).start(now)?;
        Ok(())
    }

    pub(crate) fn event(&mut self, id: &str, event: Event) {
        let now = self.now;
        self.effects = self.case(id).step(&event, now);
    }

    pub(crate) fn hear(&mut self, id: &str, report: Report) {
        self.event(id, Event::Report(report));
    }

    /// Starts a device, which then succeeds or rolls back.
    pub(crate) fn update(&mut self, id: &str, good: bool) {
        self.start(id).unwrap();
        self.hear(id, if good { says(UpdateState::Confirmed, new()) } else { rolled_back() });
    }

    pub(crate) fn of(&self, id: &str) -> &Deployment {
        &self.deployments[&DeviceId::from(id)]
    }

    pub(crate) fn stage(&self, id: &str) -> Stage {
        self.of(id).stage()
    }

    pub(crate) fn has(&self, notice: Notice) -> bool {
        self.effects.contains(&Effect::Notice(notice))
    }

    pub(crate) fn offers(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Offer { .. })).count()
    }

    pub(crate) fn withdrawals(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Withdraw { .. })).count()
    }
}

pub(crate) fn says(state: UpdateState, image: Digest) -> Report {
    let confirmed = state != UpdateState::Trial;
    Report {
        state,
        image,
        confirmed,
        deployment: None,
        progress: None,
        attempt: 0,
        error: None,
        rolled_back: None,
    }
}

/// Of the old image, about the attempt with this name.
pub(crate) fn says_of(name: &str, state: UpdateState) -> Report {
    Report { deployment: Some(name.to_owned()), ..says(state, old()) }
}

pub(crate) fn fails(name: &str, state: UpdateState, code: Code) -> Report {
    Report { error: Some(Fault { code, detail: "because".to_owned() }), ..says_of(name, state) }
}

pub(crate) fn rolled_back() -> Report {
    let error = Some(Fault { code: Code::Panic, detail: "at main.rs:1".to_owned() });
    Report { error, rolled_back: Some(new()), ..says(UpdateState::RolledBack, old()) }
}

pub(crate) const FINISHED: fn(Outcome) -> Stage = Stage::Finished;

pub(crate) const AUTO: &str =
    r#""waves": [{"size": {"devices": 2}, "gate": {"auto": {"success": 50, "soak": 600000}}}]"#;
