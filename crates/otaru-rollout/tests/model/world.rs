//! A server, a fleet and a network that loses, repeats and reorders; and what must hold after every step.

use std::collections::BTreeMap;

use otaru_format::digest::Digest;
use otaru_rollout::{
    Control, Deployment, DeviceId, Effect, Event, Gate, MAX_RETURNS, NotNow, Notice, Outcome, Phase, Report,
    Rollout, RolloutId, RolloutSpec, Span, Stage, Tags, Tally, Time,
};

use crate::device::{Device, Nature};
use crate::store::{Call, Facts, Store, is_over};

/// Start of every history.
pub(crate) const BEGINNING: Time = Time(1_000_000_000_000);

pub(crate) struct Member {
    pub(crate) id: DeviceId,
    pub(crate) tags: Tags,
    pub(crate) device: Device,
    pub(crate) reachable: bool,
    /// The last report, as far as that arrived.
    known: Report,
    /// Whether the registry has it.
    pub(crate) joined: bool,
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) fleet: Vec<Member>,
    pub(crate) now: Time,
    pub(crate) history: Vec<(Call, Time)>,
    /// Reports on their way, and those that arrived.
    mail: Vec<(usize, Report)>,
    arrived: Vec<(usize, Report)>,
    /// Starts of updates, by a clock that nobody sets.
    starts: Vec<(RolloutId, Time)>,
    true_time: Time,
    pub(crate) notices: Vec<Notice>,
    /// Offers get lost for now.
    pub(crate) deaf_network: bool,
}

impl World {
    pub(crate) fn new(fleet: Vec<(Tags, Nature, bool)>, image: Digest) -> Self {
        let member = |(n, (tags, nature, joined)): (usize, (Tags, Nature, bool))| {
            let device = Device::new(image, nature);
            let id = DeviceId::from(format!("d{n}").as_str());
            Member { id, tags, known: device.last(), device, reachable: true, joined }
        };
        let fleet = fleet.into_iter().enumerate().map(member).collect();
        Self {
            store: Store::default(),
            fleet,
            now: BEGINNING,
            history: Vec::new(),
            mail: Vec::new(),
            arrived: Vec::new(),
            starts: Vec::new(),
            true_time: BEGINNING,
            notices: Vec::new(),
            deaf_network: false,
        }
    }

    pub(crate) fn create(&mut self, id: RolloutId, spec: RolloutSpec) {
        self.call(Call::Create(id, Box::new(spec)));
        self.control(id, Control::Start);
    }

    pub(crate) fn control(&mut self, id: RolloutId, control: Control) {
        self.call(Call::Control(id, control));
    }

    fn event(&mut self, id: RolloutId, device: &DeviceId, event: Event) {
        self.call(Call::Event(id, device.clone(), event));
    }

    fn call(&mut self, call: Call) -> bool {
        self.history.push((call.clone(), self.now));
        let before = self.store.clone();
        let Some(effects) = self.store.apply(&call, self.now) else {
            assert!(before == self.store, "a call that was declined changed something: {call:?}");
            return false;
        };
        self.check_step(&before, &call, &effects);
        for effect in effects {
            self.carry_out(effect);
        }
        true
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Offer { device, offer, image, force } => {
                let at = self.index(&device);
                let member = &mut self.fleet[at];
                if member.reachable && !self.deaf_network {
                    member.device.offer(offer.to_string(), image, force);
                }
            }
            Effect::Withdraw { device, .. } => {
                let at = self.index(&device);
                if self.fleet[at].reachable
                    && let Some(report) = self.fleet[at].device.cancel()
                {
                    self.mail.push((at, report));
                }
            }
            Effect::Supersede { device, rollout, by } => self.event(rollout, &device, Event::Supersede(by)),
            Effect::Finished { device, .. } => self.admit(self.index(&device)),
            Effect::Scan { scan } => self.pending_scan(scan),
            Effect::CloseAll => self.close_all(),
            Effect::Notice(notice) => self.notices.push(notice),
            _ => {}
        }
    }

    fn index(&self, device: &DeviceId) -> usize {
        self.fleet.iter().position(|member| member.id == *device).expect("a device of the fleet")
    }

    /// A scan is done at once; that it is known by its number is tested elsewhere.
    fn pending_scan(&mut self, scan: u32) {
        let due: Vec<_> =
            self.store.rollouts.values().filter(|r| r.scan_due() == Some(scan)).map(Rollout::id).collect();
        for at in 0..self.fleet.len() {
            self.admit(at);
        }
        for id in due {
            self.control(id, Control::Scanned(scan));
        }
    }

    fn close_all(&mut self) {
        let closing: Vec<_> =
            self.store.rollouts.values().filter(|r| r.closing_due()).map(Rollout::id).collect();
        for id in closing {
            let open: Vec<_> =
                self.store.of_rollout(id).filter(|d| !is_over(d)).map(|d| d.device().clone()).collect();
            for device in open {
                self.event(id, &device, Event::Close);
            }
        }
    }

    /// Offers a device to every rollout.
    pub(crate) fn admit(&mut self, at: usize) {
        let member = &self.fleet[at];
        if !member.joined {
            return;
        }
        let facts = Facts {
            id: member.id.clone(),
            tags: member.tags.clone(),
            report: member.known.clone(),
            reachable: member.reachable,
        };
        let ids: Vec<_> = self.store.rollouts.keys().copied().collect();
        for id in ids {
            self.call(Call::Join(id, facts.clone()));
        }
    }

    /// Starts whom the engine selects.
    pub(crate) fn fill(&mut self, id: RolloutId) {
        let Some(rollout) = self.store.rollouts.get(&id) else { return };
        let candidates = self
            .store
            .of_rollout(id)
            .map(|d| (d, self.store.occupancy.get(d.device()).copied().unwrap_or_default()));
        let chosen: Vec<_> = rollout.select(candidates, self.now).into_iter().cloned().collect();
        for device in chosen {
            assert!(self.call(Call::Start(id, device)), "what was selected can be started");
        }
    }

    /// Tries to start a device that nobody selected.
    pub(crate) fn force_start(&mut self, id: RolloutId, at: usize) {
        let device = self.fleet[at].id.clone();
        self.call(Call::Start(id, device));
    }

    pub(crate) fn pass(&mut self, span: Span) {
        self.now = self.now + span;
        self.true_time = self.true_time + span;
        let ids: Vec<_> = self.store.rollouts.keys().copied().collect();
        for id in ids {
            self.control(id, Control::Tick);
        }
        let due = |d: &&otaru_rollout::Deployment| d.wake_at().is_some_and(|then| then <= self.now);
        let due: Vec<_> =
            self.store.deployments.values().filter(due).map(|d| (d.rollout(), d.device().clone())).collect();
        for (id, device) in due {
            self.event(id, &device, Event::Tick);
        }
    }

    pub(crate) fn set_back(&mut self, span: Span) {
        self.now = Time(self.now.0 - span.0);
        self.pass(Span::ZERO);
    }

    pub(crate) fn device_step(&mut self, at: usize) {
        if let Some(report) = self.fleet[at].device.step()
            && self.fleet[at].reachable
        {
            self.mail.push((at, report));
        }
    }

    pub(crate) fn reach(&mut self, at: usize, reachable: bool) {
        self.fleet[at].reachable = reachable;
        self.tell_all(at, &Event::Reachable(reachable));
        if reachable {
            self.mail.push((at, self.fleet[at].device.last()));
        }
    }

    fn tell_all(&mut self, at: usize, event: &Event) {
        let device = self.fleet[at].id.clone();
        let ids: Vec<_> = self.store.of_device(&device).map(otaru_rollout::Deployment::rollout).collect();
        for id in ids {
            self.event(id, &device, event.clone());
        }
    }

    pub(crate) fn device_event(&mut self, id: RolloutId, at: usize, event: Event) {
        let device = self.fleet[at].id.clone();
        self.event(id, &device, event);
    }

    pub(crate) fn deliver(&mut self, pick: usize) {
        if !self.mail.is_empty() {
            let (at, report) = self.mail.remove(pick % self.mail.len());
            self.arrived.push((at, report.clone()));
            self.hear(at, report);
        }
    }

    /// Takes a report. The image that a device runs decides what it may join; what it was asked to do ends first.
    fn hear(&mut self, at: usize, report: Report) {
        let known = std::mem::replace(&mut self.fleet[at].known, report.clone());
        let moved = (known.image, known.confirmed) != (report.image, report.confirmed);
        self.tell_all(at, &Event::Report(report));
        if moved {
            self.admit(at);
        }
    }

    pub(crate) fn deliver_all(&mut self) {
        while !self.mail.is_empty() {
            self.deliver(0);
        }
    }

    pub(crate) fn lose(&mut self, pick: usize) {
        if !self.mail.is_empty() {
            self.mail.remove(pick % self.mail.len());
        }
    }

    pub(crate) fn repeat(&mut self, pick: usize) {
        if !self.arrived.is_empty() {
            let (at, report) = self.arrived[pick % self.arrived.len()].clone();
            self.hear(at, report);
        }
    }

    fn check_step(&mut self, before: &Store, call: &Call, effects: &[Effect]) {
        if let Call::Start(id, device) = call {
            self.check_start(before, *id, device);
        } else {
            let starts =
                |store: &Store| -> u64 { store.deployments.values().map(|d| u64::from(d.starts())).sum() };
            assert_eq!(starts(before), starts(&self.store), "only a start starts: {call:?}");
        }
        self.check_absorption(before, call);
        self.check_retries(before, call, effects);
        self.check_waves(before, call, effects);
        self.check_counts();
        self.check_truth();
    }

    fn check_start(&mut self, before: &Store, id: RolloutId, device: &DeviceId) {
        let rollout = &before.rollouts[&id];
        let deployment = &before.deployments[&(id, device.clone())];
        assert_eq!(rollout.phase(), Phase::Running, "only a running rollout starts anything");
        assert!(!rollout.is_held_by_retries(), "it went on while too many tried again");
        assert!(deployment.wave() <= rollout.wave(), "a wave ran ahead");
        assert_eq!(deployment.stage(), Stage::Queued);
        let longest = self.now + rollout.spec().attempts.max_backoff;
        let over = |then| then <= self.now || then > longest;
        assert!(deployment.not_before().is_none_or(over), "the pause was not kept");
        let limits = &rollout.spec().limits;
        assert!(limits.window.is_none_or(|window| window.is_open(self.now)), "the window is closed");
        self.starts.push((id, self.true_time));
        let minute =
            |(of, at): &&(RolloutId, Time)| *of == id && self.true_time.since(*at) < Span::minutes(1);
        let starts = self.starts.iter().filter(minute).count();
        let most = limits.starts_per_minute.unwrap_or(u32::MAX);
        assert!(starts <= most as usize, "{starts} starts in a minute, {most} allowed");
        let most = limits.concurrency.unwrap_or(u32::MAX);
        assert!(self.store.rollouts[&id].active() <= most, "more than {most} at once");
    }

    fn check_absorption(&self, before: &Store, call: &Call) {
        let retried = |key: &crate::store::Key| matches!(call, Call::Event(id, device, Event::Retry { .. }) if (*id, device) == (key.0, &key.1));
        for (key, old) in before.deployments.iter().filter(|(key, old)| is_over(old) && !retried(key)) {
            let new = &self.store.deployments[key];
            if old != new {
                self.check_return(before, call, old, new);
            }
        }
    }

    /// Checks that what was over began again, or ended otherwise, only for a device that had the image, and that no newer rollout
    /// has.
    fn check_return(&self, before: &Store, call: &Call, old: &Deployment, new: &Deployment) {
        let Call::Join(id, facts) = call else { panic!("what was over changed: {call:?}") };
        assert_eq!((*id, &facts.id), (old.rollout(), old.device()), "{call:?}");
        if old.stage() == Stage::Finished(Outcome::Removed) {
            return assert_eq!((new.stage(), new.returns()), (Stage::Queued, old.returns()), "{call:?}");
        }
        assert!(before.rollouts[id].spec().continuous && before.rollouts[id].phase().is_open(), "{call:?}");
        assert!(matches!(old.stage(), Stage::Finished(Outcome::Succeeded | Outcome::Current)), "{old:?}");
        assert!(facts.report.confirmed && facts.report.image != old.image(), "{call:?}");
        assert_eq!(before.occupancy[&facts.id].brought_by, Some(*id), "another rollout has it");
        match new.stage() {
            Stage::Queued => assert_eq!(new.returns(), old.returns() + 1),
            stage => {
                assert_eq!(stage, Stage::Finished(Outcome::KeepsGoingBack));
                assert_eq!((old.returns(), new.returns()), (MAX_RETURNS, MAX_RETURNS));
            }
        }
        assert!(new.returns() <= MAX_RETURNS, "without end");
    }

    /// Whoever tries an image again is sent nothing, and nothing is held against it while it can be heard.
    fn check_retries(&self, before: &Store, call: &Call, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Offer { device, offer, .. } = effect {
                let stage = self.store.deployments[&(offer.rollout, device.clone())].stage();
                assert!(stage != Stage::Retrying, "its count would begin anew: {call:?}");
            }
        }
        let Call::Event(id, device, Event::Tick) = call else { return };
        let key = (*id, device.clone());
        let old = &before.deployments[&key];
        let cancels = self.store.rollouts[id].phase() == Phase::Aborted { cancel: true };
        if old.stage() == Stage::Retrying && old.is_reachable() && !cancels {
            assert_eq!(self.store.deployments[&key].stage(), Stage::Retrying, "a verdict without one");
        }
    }

    /// A wave that opens by itself does so after one that was good.
    fn check_waves(&self, before: &Store, call: &Call, effects: &[Effect]) {
        let id = match call {
            Call::Control(_, Control::Advance) => return,
            Call::Control(id, _) | Call::Event(id, ..) => *id,
            _ => return assert!(!effects.iter().any(|e| matches!(e, Effect::Notice(Notice::WaveOpened(_))))),
        };
        let rollout = &self.store.rollouts[&id];
        for wave in before.rollouts[&id].wave()..rollout.wave() {
            let tally = rollout.tallies()[wave];
            let Gate::Auto(auto) = rollout.spec().waves[wave].gate else {
                panic!("wave {} opened without a hand", wave + 1)
            };
            // Those that try again are not hoped for.
            let verdicts = tally.feared();
            assert!(!rollout.is_held_by_retries(), "a wave opened while too many tried again");
            let good = verdicts.all() == 0 || auto.success.is_reached(verdicts.good, verdicts.all());
            assert!(tally.total() == 0 || good && rollout.verdicts().good > 0, "{tally:?}");
        }
    }

    fn check_counts(&self) {
        for (id, rollout) in &self.store.rollouts {
            for (wave, tally) in rollout.tallies().iter().enumerate() {
                let counted = Tally::of(self.store.of_rollout(*id).filter(|d| d.wave() == wave));
                assert_eq!(*tally, counted, "rollout {id:?}, wave {wave}");
            }
        }
        let mut active: BTreeMap<&DeviceId, Vec<RolloutId>> = BTreeMap::new();
        for deployment in self.store.deployments.values().filter(|d| d.is_active()) {
            active.entry(deployment.device()).or_default().push(deployment.rollout());
        }
        for member in &self.fleet {
            let active = active.remove(&member.id).unwrap_or_default();
            assert!(active.len() <= 1, "{} is active in {active:?}", member.id);
            let occupied = self.store.occupancy.get(&member.id).and_then(|occupancy| occupancy.active);
            assert_eq!(occupied, active.first().copied(), "{}", member.id);
        }
    }

    /// Checks that whatever counts as updated has run the image, confirmed.
    fn check_truth(&self) {
        for deployment in self.store.deployments.values() {
            if matches!(deployment.stage(), Stage::Finished(Outcome::Succeeded | Outcome::Current)) {
                let device = &self.fleet[self.index(deployment.device())].device;
                assert!(
                    device.ran.contains(&deployment.image()),
                    "a false success of {}",
                    deployment.device()
                );
            }
        }
    }

    /// The same history again, read from JSON before each call.
    pub(crate) fn check_replay(&self) {
        let mut store = Store::default();
        for (call, now) in &self.history {
            store.apply(call, *now);
            store.reload();
        }
        assert!(store == self.store, "another end: {store:#?}\n{:#?}", self.store);
    }

    /// Why nothing starts, for messages.
    pub(crate) fn budget(&self, id: RolloutId) -> Result<u32, NotNow> {
        self.store.rollouts[&id].budget(self.now)
    }
}
