//! One rule a test, told as a short story about a fleet whose devices do what the test says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, UpdateState};
use otaru_rollout::{
    Case, Control, ControlError, Deployment, Device, DeviceId, Effect, Event, GateState, Held, NotAdmitted,
    NotNow, Notice, Occupancy, Outcome, Overlap, Phase, Report, Rollout, RolloutId, RolloutSpec, Span, Stage,
    Tags, Time, admit,
};

const NOON: Time = Time(20_000 * 86_400_000 + 12 * 3_600_000);

fn old() -> Digest {
    Digest::of(b"old")
}

fn new() -> Digest {
    Digest::of(b"new")
}

/// One rollout, its deployments, and the clock.
struct Story {
    rollout: Rollout,
    deployments: BTreeMap<DeviceId, Deployment>,
    occupancy: BTreeMap<DeviceId, Occupancy>,
    now: Time,
    effects: Vec<Effect>,
}

fn spec(json: &str) -> RolloutSpec {
    let goal = format!(r#""goal": {{"image": "{}"}}"#, new());
    let comma = if json.is_empty() { "" } else { ", " };
    serde_json::from_str(&format!("{{{goal}{comma}{json}}}")).unwrap()
}

impl Story {
    /// A running rollout with these devices, all of which can be reached.
    fn new(json: &str, devices: &[&str]) -> Self {
        let mut story = Self::draft(spec(json));
        story.control(Control::Start);
        for device in devices {
            story.join(device, true).unwrap();
        }
        story.control(Control::Scanned(1));
        story
    }

    fn draft(spec: RolloutSpec) -> Self {
        Self {
            rollout: Rollout::new(RolloutId(1), spec, NOON).unwrap(),
            deployments: BTreeMap::new(),
            occupancy: BTreeMap::new(),
            now: NOON,
            effects: Vec::new(),
        }
    }

    fn control(&mut self, control: Control) {
        self.effects = self.rollout.step(control, self.now).unwrap();
    }

    fn pass(&mut self, span: Span) {
        self.now = self.now + span;
        self.control(Control::Tick);
    }

    fn join(&mut self, id: &str, reachable: bool) -> Result<(), NotAdmitted> {
        self.join_with(id, reachable, old(), &[], None)
    }

    fn join_with(
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
        };
        let (deployment, effects) = admit(&mut self.rollout, &device, others, before)?;
        self.effects = effects;
        self.occupancy.insert(id.clone(), Occupancy::default());
        self.deployments.insert(id, deployment);
        Ok(())
    }

    fn case(&mut self, id: &str) -> Case<'_> {
        let id = DeviceId::from(id);
        Case {
            rollout: &mut self.rollout,
            deployment: self.deployments.get_mut(&id).unwrap(),
            occupancy: self.occupancy.get_mut(&id).unwrap(),
        }
    }

    fn start(&mut self, id: &str) -> Result<(), NotNow> {
        let now = self.now;
        self.effects = self.case(id).start(now)?;
        Ok(())
    }

    fn event(&mut self, id: &str, event: Event) {
        let now = self.now;
        self.effects = self.case(id).step(&event, now);
    }

    fn hear(&mut self, id: &str, report: Report) {
        self.event(id, Event::Report(report));
    }

    /// Starts a device, which then succeeds or rolls back.
    fn update(&mut self, id: &str, good: bool) {
        self.start(id).unwrap();
        self.hear(id, if good { says(UpdateState::Confirmed, new()) } else { rolled_back() });
    }

    fn of(&self, id: &str) -> &Deployment {
        &self.deployments[&DeviceId::from(id)]
    }

    fn stage(&self, id: &str) -> Stage {
        self.of(id).stage()
    }

    fn has(&self, notice: Notice) -> bool {
        self.effects.contains(&Effect::Notice(notice))
    }

    fn offers(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Offer { .. })).count()
    }

    fn withdrawals(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Withdraw { .. })).count()
    }
}

fn says(state: UpdateState, image: Digest) -> Report {
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
fn says_of(name: &str, state: UpdateState) -> Report {
    Report { deployment: Some(name.to_owned()), ..says(state, old()) }
}

fn fails(name: &str, state: UpdateState, code: Code) -> Report {
    Report { error: Some(Fault { code, detail: "because".to_owned() }), ..says_of(name, state) }
}

fn rolled_back() -> Report {
    let error = Some(Fault { code: Code::Panic, detail: "at main.rs:1".to_owned() });
    Report { error, rolled_back: Some(new()), ..says(UpdateState::RolledBack, old()) }
}

const FINISHED: fn(Outcome) -> Stage = Stage::Finished;

#[test]
fn an_update_from_offer_to_confirmation() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    assert!(matches!(&story.effects[..], [Effect::Offer { offer, image, force: false, .. }]
        if offer.to_string() == "r1.1" && *image == new()));
    story.hear("a", Report { progress: Some(40), ..says_of("r1.1", UpdateState::Downloading) });
    assert_eq!((story.stage("a"), story.of("a").progress()), (Stage::Updating, Some(40)));
    story.hear("a", says_of("r1.1", UpdateState::Restarting));
    story.hear("a", says(UpdateState::Trial, new()));
    assert_eq!(story.stage("a"), Stage::Updating, "a trial is no success yet");
    story.hear("a", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Succeeded));
    assert_eq!(story.of("a").previous(), old());
    assert!(story.has(Notice::Completed));
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn who_has_the_image_already_neither_joins_nor_fails() {
    let mut story = Story::new("", &["a", "b"]);
    assert_eq!(story.join_with("c", true, new(), &[], None), Err(NotAdmitted::Current));
    // Flashed by cable while it was queued.
    story.hear("a", says(UpdateState::Idle, new()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Current));
    assert_eq!(story.rollout.verdicts().all(), 0);
}

#[test]
fn success_is_never_believed_of_another_image() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.hear("a", says_of("r1.1", UpdateState::Confirmed));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Failed));
    assert_eq!(story.of("a").error().unwrap().code, Code::DigestMismatch);
}

#[test]
fn failures_are_tried_again_after_growing_pauses() {
    let mut story = Story::new(r#""attempts": {"count": 3, "backoff": 60000}"#, &["a"]);
    for (name, pause) in [("r1.1", 1), ("r1.2", 2)] {
        story.start("a").unwrap();
        story.hear("a", fails(name, UpdateState::Failed, Code::Dns));
        assert_eq!(story.stage("a"), Stage::Queued);
        let end = story.now + Span::minutes(pause);
        assert_eq!(story.start("a"), Err(NotNow::Backoff(end)));
        story.pass(Span::minutes(pause));
    }
    story.start("a").unwrap();
    story.hear("a", fails("r1.3", UpdateState::Failed, Code::Dns));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Failed));
    assert_eq!(story.of("a").error().unwrap().code, Code::Dns);
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    for (report, outcome) in [
        (fails("r1.1", UpdateState::Failed, Code::ImageCorrupt), Outcome::Failed),
        (fails("r1.1", UpdateState::Refused, Code::WrongChip), Outcome::Refused),
        (says_of("r1.1", UpdateState::Cancelled), Outcome::Cancelled),
        (rolled_back(), Outcome::RolledBack),
    ] {
        let mut story = Story::new("", &["a"]);
        story.start("a").unwrap();
        story.hear("a", report.clone());
        assert_eq!(story.stage("a"), FINISHED(outcome), "{report:?}");
        assert_eq!(story.occupancy.values().next().unwrap().active, None);
    }
}

#[test]
fn news_of_an_earlier_attempt_are_not_of_this_one() {
    let mut story = Story::new(r#""attempts": {"count": 3, "backoff": 0}"#, &["a"]);
    story.start("a").unwrap();
    let failure = fails("r1.1", UpdateState::Failed, Code::Dns);
    story.hear("a", failure.clone());
    story.start("a").unwrap();
    let before = story.of("a").clone();
    story.hear("a", failure);
    story.hear("a", fails("somebody-elses", UpdateState::Failed, Code::Dns));
    assert_eq!(story.of("a"), &before);
}

#[test]
fn an_old_roll_back_does_not_end_a_forced_attempt() {
    let mut story = Story::new(r#""force": true"#, &["a"]);
    story.start("a").unwrap();
    story.hear("a", rolled_back());
    assert_eq!(story.stage("a"), Stage::Offered);
    story.hear("a", says_of("r1.1", UpdateState::Downloading));
    story.hear("a", rolled_back());
    assert_eq!(story.stage("a"), FINISHED(Outcome::RolledBack));
}

#[test]
fn what_was_rolled_back_before_the_first_offer_does_not_count() {
    let mut story = Story::new("", &["a"]);
    story.hear("a", rolled_back());
    assert_eq!(story.stage("a"), Stage::Queued);
}

#[test]
fn a_retry_gives_all_attempts_anew() {
    let mut story = Story::new(r#""attempts": {"count": 2, "backoff": 0}"#, &["a", "b"]);
    for name in ["r1.1", "r1.2"] {
        story.start("a").unwrap();
        story.hear("a", fails(name, UpdateState::Failed, Code::Dns));
    }
    story.event("a", Event::Retry { force: false });
    story.start("a").unwrap();
    story.hear("a", fails("r1.3", UpdateState::Failed, Code::Dns));
    assert_eq!(story.stage("a"), Stage::Queued);
}

#[test]
fn what_is_over_stays_over_until_an_operator_retries() {
    let mut story = Story::new("", &["a", "b"]);
    story.update("a", false);
    let before = story.of("a").clone();
    for event in [
        Event::Report(says(UpdateState::Confirmed, new())),
        Event::Reachable(false),
        Event::Tick,
        Event::Supersede(RolloutId(9)),
        Event::Close,
        Event::Remove,
    ] {
        story.event("a", event);
        assert_eq!(story.of("a"), &before);
        assert_eq!(story.effects, []);
    }
    story.event("a", Event::Retry { force: true });
    story.start("a").unwrap();
    assert!(matches!(&story.effects[..], [Effect::Offer { offer, force: true, .. }] if offer.start == 2));
    story.event("a", Event::Retry { force: true });
    assert_eq!(story.stage("a"), Stage::Offered, "what runs needs no retry");
}

#[test]
fn a_silent_device_runs_out_of_time_and_attempts() {
    let mut story = Story::new(r#""attempts": {"count": 2, "timeout": 60000, "backoff": 0}"#, &["a"]);
    for stage in [Stage::Queued, FINISHED(Outcome::TimedOut)] {
        story.start("a").unwrap();
        assert_eq!(story.of("a").wake_at(), Some(story.now + Span::minutes(1)));
        story.pass(Span(59_999));
        story.event("a", Event::Tick);
        assert!(story.of("a").is_active());
        story.pass(Span(1));
        story.event("a", Event::Tick);
        assert_eq!(story.stage("a"), stage);
        assert_eq!(story.withdrawals(), 1);
    }
}

#[test]
fn who_went_away_before_the_offer_waits_and_has_not_failed() {
    let mut story = Story::new(r#""attempts": {"count": 1, "timeout": 60000}"#, &["a"]);
    story.start("a").unwrap();
    story.event("a", Event::Reachable(false));
    story.pass(Span::minutes(1));
    story.event("a", Event::Tick);
    assert_eq!(story.stage("a"), Stage::Queued);
    assert_eq!(story.start("a"), Err(NotNow::NotReady));
    story.event("a", Event::Reachable(true));
    story.update("a", true);
    assert_eq!(story.stage("a"), FINISHED(Outcome::Succeeded));
}

#[test]
fn a_device_that_may_have_missed_the_offer_is_told_again() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    let offer = story.effects.clone();
    story.event("a", Event::Reachable(false));
    story.event("a", Event::Reachable(true));
    assert_eq!(story.effects, offer);
    story.hear("a", says_of("r1.1", UpdateState::Downloading));
    story.event("a", Event::Reachable(false));
    story.event("a", Event::Reachable(true));
    assert_eq!(story.offers(), 0);
    // Restarted, and forgotten.
    story.hear("a", says(UpdateState::Idle, old()));
    assert_eq!(story.effects, offer);
}

const AUTO: &str =
    r#""waves": [{"size": {"devices": 2}, "gate": {"auto": {"success": 50, "soak": 600000}}}]"#;

#[test]
fn a_wave_soaks_and_the_next_opens() {
    let mut story = Story::new(AUTO, &["a", "b", "c"]);
    assert_eq!(story.start("c"), Err(NotNow::Wave));
    story.update("a", true);
    assert_eq!(story.rollout.gate(), GateState::Working);
    story.update("b", false);
    assert!(story.has(Notice::Soaking(0)));
    assert_eq!(story.rollout.wake_at(story.now), Some(story.now + Span::minutes(10)));
    story.pass(Span(599_999));
    assert_eq!(story.rollout.wave(), 0);
    story.pass(Span(1));
    assert!(story.has(Notice::WaveOpened(1)));
    story.update("c", true);
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn a_wave_that_is_not_good_enough_waits_for_an_operator() {
    let mut story = Story::new(AUTO, &["a", "b", "c"]);
    story.update("a", false);
    story.update("b", false);
    assert!(story.has(Notice::Held(Held::SuccessRate)));
    story.pass(Span::hours(24));
    assert_eq!(story.rollout.wave(), 0);
    story.control(Control::Advance);
    assert_eq!(story.rollout.wave(), 1);
    assert_eq!(story.rollout.step(Control::Advance, story.now), Err(ControlError::LastWave));
}

#[test]
fn by_hand_means_by_hand() {
    let mut story = Story::new(r#""waves": [{"size": {"devices": 1}}]"#, &["a", "b"]);
    story.update("a", true);
    assert!(story.has(Notice::Held(Held::Hand)));
    story.pass(Span::hours(1_000));
    assert_eq!(story.rollout.wave(), 0);
}

#[test]
fn who_is_away_does_not_hold_a_wave_up() {
    let mut story = Story::new(AUTO, &["a", "b", "c"]);
    story.event("b", Event::Reachable(false));
    story.update("a", true);
    assert!(matches!(story.rollout.gate(), GateState::Soaking(_)));
    // It comes back while the wave soaks: it starts, and the soak goes on.
    story.pass(Span::minutes(5));
    story.event("b", Event::Reachable(true));
    story.start("b").unwrap();
    story.pass(Span::minutes(5));
    assert_eq!(story.rollout.wave(), 1);
    // The rollout as a whole waits for it.
    story.update("c", true);
    assert_eq!(story.rollout.phase(), Phase::Running);
    story.hear("b", says(UpdateState::Confirmed, new()));
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn a_wave_is_patient_with_who_is_away() {
    let gate =
        r#""waves": [{"size": {"devices": 2}, "gate": {"auto": {"success": 50, "patience": 3600000}}}]"#;
    let mut story = Story::new(gate, &["a", "b", "c"]);
    story.event("b", Event::Reachable(false));
    story.update("a", true);
    assert_eq!(story.rollout.gate(), GateState::Working);
    assert_eq!(story.rollout.wake_at(story.now), Some(NOON + Span::hours(1)));
    story.pass(Span::hours(1));
    assert_eq!(story.rollout.wave(), 1);
}

#[test]
fn nothing_opens_on_no_evidence() {
    let mut story = Story::new(AUTO, &["a", "b", "c"]);
    story.event("a", Event::Reachable(false));
    story.event("b", Event::Reachable(false));
    assert!(story.has(Notice::Held(Held::NoEvidence)));
    story.pass(Span::hours(48));
    assert_eq!(story.rollout.wave(), 0);
    story.event("b", Event::Reachable(true));
    story.update("b", true);
    assert!(story.has(Notice::Soaking(0)));
}

#[test]
fn a_wave_without_anybody_is_passed_over() {
    let waves = r#""waves": [{"size": {"devices": 1}, "gate": {"auto": {"success": 100}}},
        {"size": {"devices": 1}, "gate": {"auto": {"success": 100}}}]"#;
    let mut story = Story::new(waves, &["a"]);
    story.update("a", true);
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn nothing_is_decided_before_the_fleet_was_looked_through() {
    let mut story = Story::draft(spec(AUTO));
    story.control(Control::Start);
    assert!(story.effects.contains(&Effect::Scan { scan: 1 }));
    story.pass(Span::hours(1));
    story.control(Control::Scanned(7));
    assert_eq!((story.rollout.phase(), story.rollout.wave()), (Phase::Running, 0));
    assert_eq!(story.rollout.scan_due(), Some(1));
    story.control(Control::Scanned(1));
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn too_many_failures_stop_it() {
    let mut story = Story::new(r#""stop": {"failures": 50, "minimum": 2}"#, &["a", "b", "c", "d", "e", "f"]);
    story.start("f").unwrap();
    story.update("a", false);
    assert_eq!(story.rollout.phase(), Phase::Running, "one is below the minimum");
    story.update("b", true);
    assert!(
        matches!(story.effects.last(), Some(Effect::Notice(Notice::Stopped(v))) if v.bad == 1 && v.good == 1)
    );
    assert_eq!(story.start("c"), Err(NotNow::Phase(Phase::Stopped)));
    story.hear("f", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("f"), FINISHED(Outcome::Succeeded), "what was under way goes on");
    // What was known when it was resumed does not stop it again; what comes after may.
    story.control(Control::Resume);
    story.update("c", false);
    assert_eq!(story.rollout.phase(), Phase::Running);
    story.update("d", false);
    assert_eq!(story.rollout.phase(), Phase::Stopped);
}

#[test]
fn a_bad_wave_stops_it_however_good_the_first_was() {
    let rules = r#""stop": {"failures": 50, "minimum": 2}, "waves": [{"size": {"devices": 3}}]"#;
    let mut story = Story::new(rules, &["a", "b", "c", "d", "e", "f"]);
    for id in ["a", "b", "c"] {
        story.update(id, true);
    }
    story.control(Control::Advance);
    story.update("d", false);
    assert_eq!(story.rollout.phase(), Phase::Running);
    story.update("e", false);
    assert_eq!(story.rollout.phase(), Phase::Stopped);
}

#[test]
fn failures_here_and_there_stop_it_too() {
    let rules = r#""stop": {"failures": 50, "minimum": 2}, "waves": [{"size": {"devices": 1}}]"#;
    let mut story = Story::new(rules, &["a", "b", "c"]);
    story.update("a", false);
    story.control(Control::Advance);
    story.update("b", false);
    assert_eq!(story.rollout.phase(), Phase::Stopped);
}

#[test]
fn failures_that_were_retried_are_counted_anew() {
    let mut story = Story::new(r#""stop": {"failures": 50, "minimum": 2}"#, &["a", "b", "c"]);
    story.update("a", false);
    story.update("b", false);
    story.control(Control::Resume);
    for id in ["a", "b"] {
        story.event(id, Event::Retry { force: false });
        story.update(id, false);
    }
    assert_eq!(story.rollout.phase(), Phase::Stopped);
}

#[test]
fn caps_and_windows_say_when() {
    let limits = r#""limits": {"concurrency": 2, "starts_per_minute": 3, "window": "12:00-13:00"}"#;
    let mut story = Story::new(limits, &["a", "b", "c", "d"]);
    assert_eq!(story.rollout.budget(story.now), Ok(2));
    story.start("a").unwrap();
    story.start("b").unwrap();
    assert_eq!(story.start("c"), Err(NotNow::Concurrency));
    story.hear("a", says(UpdateState::Confirmed, new()));
    story.update("c", true);
    let Err(NotNow::Rate(then)) = story.start("d") else { panic!("a fourth in a minute") };
    assert_eq!(story.rollout.wake_at(story.now), Some(then));
    assert!(then > story.now && then <= story.now + Span::seconds(65));
    story.pass(Span::hours(1));
    let next = NOON + Span::hours(24);
    assert_eq!(story.start("d"), Err(NotNow::Window(next)));
    assert_eq!(story.rollout.wake_at(story.now), Some(next));
    story.hear("b", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("b"), FINISHED(Outcome::Succeeded), "what has started may go on after it");
}

#[test]
fn selection_keeps_to_the_budget_and_the_order() {
    let mut story = Story::new(r#""limits": {"concurrency": 2}"#, &["a", "b", "c", "d"]);
    story.start("a").unwrap();
    story.hear("a", fails("r1.1", UpdateState::Failed, Code::Dns));
    story.pass(Span::hours(1));
    let free = Occupancy::default();
    let taken = Occupancy { active: Some(RolloutId(5)) };
    let of = |id: &str| if id == "b" { taken } else { free };
    let candidates = story.deployments.values().map(|d| (d, of(d.device().as_str())));
    let mut chosen: Vec<_> =
        story.rollout.select(candidates, story.now).into_iter().map(DeviceId::as_str).collect();
    chosen.sort_unstable();
    assert_eq!(chosen, ["c", "d"], "b is busy, and a has had its turn");
}

#[test]
fn a_pause_pauses_and_an_abort_ends() {
    let mut story = Story::new("", &["a", "b", "c"]);
    story.start("a").unwrap();
    story.control(Control::Pause);
    assert_eq!(story.start("b"), Err(NotNow::Phase(Phase::Paused)));
    story.control(Control::Resume);
    story.start("b").unwrap();
    story.control(Control::Abort { cancel: true });
    assert!(story.effects.contains(&Effect::CloseAll) && story.rollout.closing_due());
    for id in ["a", "b", "c"] {
        story.event(id, Event::Close);
    }
    assert_eq!(story.stage("c"), FINISHED(Outcome::Cancelled));
    assert!(story.of("a").is_active(), "until it has answered");
    assert_eq!(story.of("a").standing_offer(&story.rollout), None);
    story.hear("a", says_of("r1.1", UpdateState::Cancelled));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Cancelled));
    // Too late for this one: it tells what it is.
    story.hear("b", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("b"), FINISHED(Outcome::Succeeded));
    assert!(!story.rollout.closing_due());
    assert!(story.rollout.step(Control::Resume, story.now).is_err());
    assert_eq!(story.join("d", true), Err(NotAdmitted::Closed));
}

#[test]
fn an_abort_can_let_go_on_what_is_under_way() {
    let mut story = Story::new("", &["a", "b"]);
    story.start("a").unwrap();
    story.control(Control::Abort { cancel: false });
    story.event("a", Event::Close);
    assert_eq!((story.withdrawals(), story.stage("a")), (0, Stage::Offered));
    // But not again.
    story.hear("a", fails("r1.1", UpdateState::Failed, Code::Dns));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Failed));
}

#[test]
fn the_calendar_begins_and_ends_it() {
    let (begin, end) = (NOON + Span::hours(1), NOON + Span::hours(2));
    let mut story = Story::draft(spec(&format!(r#""start_at": {}, "end_at": {}"#, begin.0, end.0)));
    story.control(Control::Start);
    assert_eq!(story.rollout.phase(), Phase::Scheduled);
    assert_eq!(story.rollout.wake_at(story.now), Some(begin));
    story.pass(Span::hours(1));
    assert!(story.has(Notice::Started));
    story.join("a", true).unwrap();
    story.join("b", false).unwrap();
    story.control(Control::Scanned(1));
    story.start("a").unwrap();
    story.pass(Span::hours(1));
    assert!(story.effects.contains(&Effect::CloseAll));
    for id in ["a", "b"] {
        story.event(id, Event::Close);
    }
    assert_eq!((story.stage("b"), story.rollout.phase()), (FINISHED(Outcome::Cancelled), Phase::Finishing));
    story.hear("a", says(UpdateState::Confirmed, new()));
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn a_continuous_rollout_takes_whoever_comes() {
    let mut story = Story::new(r#""continuous": true"#, &["a"]);
    story.update("a", true);
    assert_eq!(story.rollout.phase(), Phase::Running);
    story.join("b", true).unwrap();
    story.update("b", true);
    story.control(Control::Finish);
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn a_share_can_grow_only() {
    let mut story = Story::new(r#""target": {"percent": 10}, "continuous": true"#, &[]);
    let names: Vec<String> = (0..50).map(|n| format!("d{n}")).collect();
    let join = |story: &mut Story| names.iter().filter(|name| story.join(name, true).is_ok()).count();
    let few = join(&mut story);
    assert_eq!(
        story.rollout.step(Control::Widen(serde_json::from_str("10").unwrap()), story.now),
        Err(ControlError::NotWider)
    );
    story.control(Control::Widen(serde_json::from_str("60").unwrap()));
    assert!(story.effects.contains(&Effect::Scan { scan: 2 }));
    let early: Vec<_> = story.deployments.keys().cloned().collect();
    let many = join(&mut story);
    assert!(few < many && early.iter().all(|id| story.deployments.contains_key(id)), "{few} {many}");
}

#[test]
fn the_higher_priority_takes_what_is_queued_and_waits_for_what_runs() {
    let mut story = Story::new("", &["a", "b"]);
    let other = |priority, rollout| [Overlap { rollout: RolloutId(rollout), priority }];
    assert_eq!(
        story.join_with("c", true, old(), &other(1, 0), None),
        Err(NotAdmitted::Outranked(RolloutId(0)))
    );
    assert_eq!(
        story.join_with("c", true, old(), &other(0, 2), None),
        Err(NotAdmitted::Outranked(RolloutId(2)))
    );
    story.join_with("c", true, old(), &other(0, 0), None).unwrap();
    assert!(matches!(
        &story.effects[..],
        [Effect::Supersede { rollout: RolloutId(0), by: RolloutId(1), .. }]
    ));

    story.occupancy.insert(DeviceId::from("c"), Occupancy { active: Some(RolloutId(0)) });
    assert_eq!(story.start("c"), Err(NotNow::Occupied(RolloutId(0))));

    story.event("a", Event::Supersede(RolloutId(2)));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Superseded));
    story.start("b").unwrap();
    story.event("b", Event::Supersede(RolloutId(2)));
    assert!(story.of("b").is_active());
    story.hear("b", fails("r1.1", UpdateState::Failed, Code::Dns));
    assert_eq!(story.stage("b"), FINISHED(Outcome::Superseded), "it does not try again");
}

#[test]
fn a_roll_back_of_the_fleet_gives_each_what_it_ran() {
    let undo = format!(r#"{{"goal": {{"undo": {{"rollout": 1, "image": "{}"}}}}}}"#, new());
    let mut story = Story::draft(serde_json::from_str(&undo).unwrap());
    story.control(Control::Start);
    let before = Digest::of(b"before");
    assert_eq!(story.join_with("a", true, old(), &[], Some(before)), Err(NotAdmitted::NotTargeted));
    assert_eq!(story.join_with("b", true, new(), &[], None), Err(NotAdmitted::NothingBefore));
    story.join_with("c", true, new(), &[], Some(before)).unwrap();
    story.start("c").unwrap();
    assert!(matches!(&story.effects[..], [Effect::Offer { image, force: false, .. }] if *image == before));
    story.hear("c", says(UpdateState::Confirmed, before));
    assert_eq!(story.stage("c"), FINISHED(Outcome::Succeeded));
}

#[test]
fn a_clock_that_is_set_back_delays_nothing_for_longer_than_it_may_take() {
    let mut story = Story::new(AUTO, &["a", "b", "c"]);
    story.update("a", true);
    story.start("b").unwrap();
    story.now = Time(NOON.0 - Span::hours(1_000).0);
    story.event("b", Event::Tick);
    assert_eq!(story.of("b").wake_at(), Some(story.now + Span::hours(1)));
    story.hear("b", fails("r1.1", UpdateState::Failed, Code::ImageCorrupt));
    assert!(matches!(story.rollout.gate(), GateState::Soaking(since) if since == story.now));
    story.now = Time(story.now.0 - Span::hours(1_000).0);
    story.control(Control::Tick);
    story.pass(Span::minutes(10));
    assert_eq!(story.rollout.wave(), 1);
    story.start("c").unwrap();
}

#[test]
fn a_clock_that_is_set_back_stops_nobody_from_starting() {
    let rules = r#""limits": {"starts_per_minute": 1}, "attempts": {"backoff": 60000, "max_backoff": 60000}"#;
    let mut story = Story::new(rules, &["a", "b"]);
    story.start("a").unwrap();
    story.hear("a", fails("r1.1", UpdateState::Failed, Code::Dns));
    story.now = Time(NOON.0 - Span::hours(1_000).0);
    story.control(Control::Tick);
    assert!(matches!(story.start("b"), Err(NotNow::Rate(then)) if then <= story.now + Span::seconds(65)));
    story.pass(Span::seconds(65));
    story.start("b").unwrap();
    story.pass(Span::seconds(65));
    story.start("a").unwrap();
}

#[test]
fn a_device_that_is_retired_is_no_failure() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.event("a", Event::Remove);
    assert_eq!(story.stage("a"), FINISHED(Outcome::Removed));
    assert_eq!((story.rollout.phase(), story.rollout.verdicts().bad), (Phase::Completed, 0));
}

#[test]
fn the_row_of_a_rollout_is_small() {
    let names: Vec<String> = (0..1_000).map(|n| format!("d{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let json = |devices: &[&str]| serde_json::to_string(&Story::new(AUTO, devices).rollout).unwrap().len();
    // The counts have more digits.
    assert!(json(&names).abs_diff(json(&names[..1])) < 20);
}

/// The old image, after so many trials of the new one that did not reach the broker.
fn tries_again(trials: u8) -> Report {
    let error = Some(Fault { code: Code::Unreachable, detail: "did not reach the broker".to_owned() });
    Report { error, attempt: trials, rolled_back: Some(new()), ..says(UpdateState::Retrying, old()) }
}

fn gave_up_trying() -> Report {
    Report { state: UpdateState::Failed, ..tries_again(5) }
}

/// Report of a device after a restart, and of no attempt.
fn crashed(code: Code) -> Report {
    let error = Some(Fault { code, detail: "again and again".to_owned() });
    Report { error, ..says(UpdateState::Failed, old()) }
}

impl Story {
    /// Starts a device, whose new image does not reach the broker.
    fn misses(&mut self, id: &str) {
        self.start(id).unwrap();
        self.hear(id, tries_again(1));
    }
}

#[test]
fn a_device_that_tries_again_has_not_failed_however_long_it_takes() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.hear("a", says_of("r1.1", UpdateState::Restarting));
    for trials in 1..=4 {
        story.hear("a", tries_again(trials));
        assert_eq!((story.stage("a"), story.of("a").trials()), (Stage::Retrying, trials));
        for _ in 0..30 {
            story.pass(Span::hours(1));
            story.event("a", Event::Tick);
            assert_eq!((story.stage("a"), story.offers(), story.withdrawals()), (Stage::Retrying, 0, 0));
        }
        // It comes and goes with each trial, and tells the same again.
        story.event("a", Event::Reachable(false));
        story.event("a", Event::Reachable(true));
        story.hear("a", tries_again(trials));
        assert_eq!((story.stage("a"), story.offers()), (Stage::Retrying, 0));
        // A trial begins.
        story.hear("a", says(UpdateState::Restarting, old()));
        assert_eq!(story.stage("a"), Stage::Retrying);
    }
    assert_eq!(story.rollout.verdicts().all(), 0);
    let mut other = Story {
        rollout: story.rollout.clone(),
        deployments: story.deployments.clone(),
        ..Story::new("", &[])
    };
    other.occupancy = story.occupancy.clone();
    other.now = story.now;
    story.hear("a", says(UpdateState::Trial, new()));
    assert_eq!(story.stage("a"), Stage::Updating);
    story.hear("a", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Succeeded));
    other.hear("a", gave_up_trying());
    assert_eq!(other.stage("a"), FINISHED(Outcome::Failed));
    assert_eq!(other.of("a").error().unwrap().code, Code::Unreachable);
    assert_eq!(other.rollout.verdicts().bad, 1);
    assert_eq!(other.rollout.phase(), Phase::Completed);
}

#[test]
fn a_device_that_is_not_heard_after_it_started_the_image_has_six_days() {
    let mut story = Story::new(r#""attempts": {"count": 3, "timeout": 60000}"#, &["a"]);
    story.start("a").unwrap();
    story.hear("a", says_of("r1.1", UpdateState::Restarting));
    story.event("a", Event::Reachable(false));
    story.pass(Span::minutes(1));
    story.event("a", Event::Tick);
    assert_eq!((story.stage("a"), story.withdrawals()), (Stage::Retrying, 0));
    // What the broker had kept of it is told again, as after a restart of the server.
    story.hear("a", says_of("r1.1", UpdateState::Restarting));
    story.pass(Span::hours(5 * 24));
    story.event("a", Event::Tick);
    assert_eq!(story.stage("a"), Stage::Retrying);
    let mut late = story.of("a").clone();
    story.pass(Span::hours(24));
    story.event("a", Event::Tick);
    assert_eq!(story.stage("a"), FINISHED(Outcome::TimedOut), "neither image was heard");
    // Had it come back a day earlier, it would be updated.
    let (mut rollout, mut occupancy) = (story.rollout.clone(), Occupancy { active: Some(RolloutId(1)) });
    let mut case = Case { rollout: &mut rollout, deployment: &mut late, occupancy: &mut occupancy };
    case.step(&Event::Report(says(UpdateState::Confirmed, new())), story.now);
    assert_eq!(late.stage(), FINISHED(Outcome::Succeeded));
}

#[test]
fn a_device_that_was_not_seen_to_begin_is_seen_to_try_again() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.event("a", Event::Reachable(false));
    story.event("a", Event::Reachable(true));
    story.hear("a", tries_again(2));
    assert_eq!(story.stage("a"), Stage::Retrying);
    assert_eq!(story.of("a").standing_offer(&story.rollout), None, "its count would begin anew");
    assert!(story.of("a").is_active());
}

#[test]
fn trials_of_another_image_are_not_of_this_one() {
    let mut story = Story::new("", &["a"]);
    story.hear("a", tries_again(1));
    assert_eq!(story.stage("a"), Stage::Queued, "nothing was offered yet");
    story.start("a").unwrap();
    story.hear("a", Report { rolled_back: Some(Digest::of(b"other")), ..tries_again(1) });
    assert_eq!(story.stage("a"), Stage::Offered);
    story.hear("a", Report { rolled_back: Some(Digest::ZERO), ..tries_again(1) });
    assert_eq!(story.stage("a"), Stage::Offered);
    // What it gave up on before is told until a command.
    story.hear("a", gave_up_trying());
    assert_eq!(story.stage("a"), Stage::Offered);
}

#[test]
fn what_ends_the_trials_ends_the_wait() {
    // Somebody's own command took its place.
    let mut story = Story::new("", &["a"]);
    story.misses("a");
    story.hear("a", says_of("by-hand", UpdateState::Downloading));
    assert_eq!(story.stage("a"), Stage::Updating);
    assert_eq!(story.of("a").wake_at(), Some(story.now + Span::hours(1)));
    // It was flashed by cable, and knows of nothing.
    let mut story = Story::new("", &["a"]);
    story.misses("a");
    story.hear("a", says(UpdateState::Idle, old()));
    assert_eq!((story.stage("a"), story.offers()), (Stage::Updating, 1));
    // Somebody cancelled at the device, which has forgotten the name.
    let mut story = Story::new("", &["a"]);
    story.misses("a");
    story.hear("a", says(UpdateState::Cancelled, old()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Cancelled));
    // A trial that reached the broker was found bad.
    let mut story = Story::new("", &["a"]);
    story.misses("a");
    story.hear("a", rolled_back());
    assert_eq!(story.stage("a"), FINISHED(Outcome::RolledBack));
}

#[test]
fn what_comes_first_does_not_wait_for_trials_and_an_abort_cancels_them() {
    let mut story = Story::new("", &["a", "b"]);
    story.misses("a");
    story.misses("b");
    story.event("a", Event::Supersede(RolloutId(2)));
    assert_eq!((story.stage("a"), story.withdrawals()), (FINISHED(Outcome::Superseded), 1));
    assert_eq!(story.occupancy[&DeviceId::from("a")].active, None);
    story.control(Control::Abort { cancel: true });
    story.event("b", Event::Close);
    assert_eq!(story.withdrawals(), 1);
    assert_eq!(story.of("b").wake_at(), Some(story.now + Span::hours(1)), "it has not days to answer");
    story.pass(Span::hours(1));
    story.event("b", Event::Tick);
    assert_eq!(story.stage("b"), FINISHED(Outcome::Cancelled));
}

#[test]
fn no_wave_opens_and_nothing_starts_while_too_many_try_again() {
    let rules = r#""stop": {"failures": 50, "minimum": 2},
        "waves": [{"size": {"devices": 4}, "gate": {"auto": {"success": 10}}}]"#;
    let mut story = Story::new(rules, &["a", "b", "c", "d", "e"]);
    story.update("a", true);
    story.misses("b");
    assert_eq!(story.start("c"), Err(NotNow::Retries), "half of two");
    story.pass(Span::hours(40));
    assert_eq!((story.rollout.phase(), story.rollout.wave()), (Phase::Running, 0), "held, not stopped");
    // It was the network.
    story.hear("b", says(UpdateState::Confirmed, new()));
    story.misses("c");
    story.start("d").unwrap();
    story.hear("d", tries_again(1));
    assert!(story.has(Notice::Held(Held::Unreachable)));
    // One of them succeeds in its last trial, and one of four is few enough.
    story.hear("d", says(UpdateState::Confirmed, new()));
    assert_eq!(story.rollout.wave(), 1);
}

#[test]
fn few_that_try_again_hold_up_nothing() {
    let rules = r#""stop": {"failures": 50, "minimum": 3},
        "waves": [{"size": {"devices": 4}, "gate": {"auto": {"success": 70}}}]"#;
    let mut story = Story::new(rules, &["a", "b", "c", "d", "e"]);
    story.misses("a");
    for id in ["b", "c", "d"] {
        story.update(id, true);
    }
    assert_eq!(story.rollout.wave(), 1, "one of four is below the share");
    story.update("e", true);
    assert_eq!(story.rollout.phase(), Phase::Running, "it is not over before they are");
    story.hear("a", gave_up_trying());
    assert_eq!(story.rollout.phase(), Phase::Completed);
}

#[test]
fn without_a_stop_rule_a_wave_is_judged_as_though_they_failed() {
    let mut story = Story::new(
        r#""waves": [{"size": {"devices": 2}, "gate": {"auto": {"success": 80}}}]"#,
        &["a", "b", "c"],
    );
    story.update("a", true);
    story.misses("b");
    assert!(story.has(Notice::Held(Held::Unreachable)));
    story.pass(Span::hours(48));
    assert_eq!(story.rollout.wave(), 0);
    story.hear("b", says(UpdateState::Confirmed, new()));
    assert_eq!(story.rollout.wave(), 1);
}

#[test]
fn trials_that_end_count_as_failures_and_may_stop_it() {
    let mut story = Story::new(r#""stop": {"failures": 50, "minimum": 2}"#, &["a", "b", "c"]);
    for id in ["a", "b"] {
        story.start(id).unwrap();
    }
    for id in ["a", "b"] {
        story.hear(id, tries_again(1));
    }
    assert_eq!((story.rollout.phase(), story.start("c")), (Phase::Running, Err(NotNow::Retries)));
    story.hear("a", gave_up_trying());
    assert_eq!(story.rollout.phase(), Phase::Running);
    story.hear("b", gave_up_trying());
    assert_eq!(story.rollout.phase(), Phase::Stopped);
    assert_eq!(story.of("b").starts(), 1, "five trials are enough");
}

#[test]
fn those_that_try_again_take_no_place_of_others() {
    let mut story = Story::new(r#""limits": {"concurrency": 1}"#, &["a", "b"]);
    story.misses("a");
    assert_eq!(story.rollout.active(), 0);
    story.start("b").unwrap();
}

#[test]
fn what_crashes_a_device_is_not_offered_to_it_again() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.hear("a", says_of("r1.1", UpdateState::Downloading));
    story.hear("a", crashed(Code::Crashed));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Failed));
    assert_eq!(story.of("a").error().unwrap().code, Code::Crashed);
    for event in [Event::Reachable(false), Event::Reachable(true), Event::Report(crashed(Code::Crashed))] {
        story.event("a", event);
        assert_eq!(story.effects, []);
    }
    assert_eq!(story.of("a").standing_offer(&story.rollout), None);
}

#[test]
fn what_was_interrupted_is_offered_as_often_as_there_are_attempts() {
    let mut story = Story::new(r#""attempts": {"count": 2, "backoff": 0}"#, &["a"]);
    for stage in [Stage::Queued, FINISHED(Outcome::Failed)] {
        story.start("a").unwrap();
        let name = story.of("a").offer().unwrap().to_string();
        story.hear("a", says_of(&name, UpdateState::Downloading));
        story.hear("a", crashed(Code::Interrupted));
        assert_eq!(story.stage("a"), stage);
    }
}

#[test]
fn a_device_that_crashes_before_it_says_anything_is_offered_a_bounded_number_of_times() {
    let rules = r#""attempts": {"count": 2, "timeout": 3600000, "backoff": 0}"#;
    // It says that it crashed, and so is not told again: perhaps that was this offer.
    let mut story = Story::new(rules, &["a"]);
    story.start("a").unwrap();
    story.hear("a", crashed(Code::Crashed));
    assert_eq!(story.stage("a"), Stage::Offered, "it may have been an earlier one");
    story.event("a", Event::Reachable(false));
    story.event("a", Event::Reachable(true));
    assert_eq!(story.offers(), 0);
    // It says nothing at all, or only that it is idle.
    for idle in [false, true] {
        let mut story = Story::new(rules, &["a"]);
        let mut offers = 0;
        for _ in 0..1_000 {
            if story.start("a").is_ok() {
                offers += story.offers();
                let name = story.of("a").offer().unwrap().to_string();
                if idle {
                    story.hear("a", says_of(&name, UpdateState::Checking));
                }
            }
            for event in [Event::Reachable(false), Event::Reachable(true)] {
                story.event("a", event);
                offers += story.offers();
            }
            if idle {
                story.hear("a", says(UpdateState::Idle, old()));
                offers += story.offers();
            }
            story.pass(Span::minutes(1));
            story.event("a", Event::Tick);
        }
        assert!(matches!(story.stage("a"), Stage::Finished(Outcome::Failed | Outcome::TimedOut)));
        assert!(offers <= 22, "{offers}");
    }
}

#[test]
fn a_loss_of_power_bars_nothing() {
    let power = || {
        let error = Some(Fault { code: Code::PowerLoss, detail: "20 starts".to_owned() });
        Report { error, ..rolled_back() }
    };
    let mut story = Story::new(r#""continuous": true"#, &["a"]);
    story.start("a").unwrap();
    story.hear("a", says_of("r1.1", UpdateState::Restarting));
    story.hear("a", power());
    assert_eq!(story.stage("a"), FINISHED(Outcome::RolledBack));
    // Somebody tries again, without force: the device goes on telling of the first time until it has begun.
    story.event("a", Event::Retry { force: false });
    story.start("a").unwrap();
    story.hear("a", power());
    assert_eq!(story.stage("a"), Stage::Offered);
    story.hear("a", says_of("r1.2", UpdateState::Restarting));
    story.hear("a", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Succeeded));
}
