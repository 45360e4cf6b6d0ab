//! Waves, their gates, and the rule that stops a rollout.

use otaru_format::status::UpdateState;
use otaru_rollout::{
    Control, ControlError, Effect, Event, GateState, Held, NotNow, Notice, Outcome, Phase, Rollout,
    RolloutId, Span, SpecError, Time,
};
use serde_json::json;

use crate::story::*;

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

/// Drafts that an earlier version kept.
#[test]
fn a_draft_that_makes_no_sense_does_not_start() {
    let draft = Rollout::new(RolloutId(1), spec(r#""waves": []"#), Time(0)).unwrap();
    let draft = serde_json::to_value(draft).unwrap();
    for (field, value, error) in [
        ("target", json!({"percent": 0}), SpecError::ShareOfZero),
        ("limits", json!({"concurrency": 0}), SpecError::LimitOfZero),
    ] {
        let mut draft = draft.clone();
        draft["spec"][field] = value;
        let mut rollout: Rollout = serde_json::from_value(draft).unwrap();
        let before = rollout.clone();
        let refused = rollout.step(Control::Start, Time(1)).unwrap_err();
        assert_eq!(refused, ControlError::Spec(error));
        assert_eq!(refused.to_string(), format!("{error}; make the rollout anew"));
        assert_eq!(rollout, before);
        rollout.step(Control::Abort { cancel: false }, Time(1)).unwrap();
    }
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
