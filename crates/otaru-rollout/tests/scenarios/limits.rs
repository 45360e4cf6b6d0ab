//! Caps, windows, the calendar and the clock; what operators do.

use otaru_format::status::{Code, UpdateState};
use otaru_rollout::{
    Control, ControlError, DeviceId, Effect, Event, GateState, NotAdmitted, NotNow, Notice, Occupancy,
    Outcome, Phase, RolloutId, Span, Stage, Time,
};

use crate::story::*;

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
    let taken = Occupancy { active: Some(RolloutId(5)), ..Occupancy::default() };
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
fn the_row_of_a_rollout_is_small() {
    let names: Vec<String> = (0..1_000).map(|n| format!("d{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let json = |devices: &[&str]| serde_json::to_string(&Story::new(AUTO, devices).rollout).unwrap().len();
    // The counts have more digits.
    assert!(json(&names).abs_diff(json(&names[..1])) < 20);
}
