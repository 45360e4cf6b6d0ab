//! Images that do not reach the broker, crash, or lose power.

use otaru_format::digest::Digest;
use otaru_format::status::{Code, Fault, UpdateState};
use otaru_rollout::{
    Control, DeploymentStep, DeviceId, Event, Held, NotNow, Notice, Occupancy, Outcome, Phase, Report,
    RolloutId, Span, Stage,
};

use crate::story::*;

/// The old image, after so many trials of the new one that did not reach the broker.
pub(crate) fn tries_again(trials: u8) -> Report {
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
    let (mut rollout, mut occupancy) =
        (story.rollout.clone(), Occupancy { active: Some(RolloutId(1)), ..Occupancy::default() });
    let mut case = DeploymentStep { rollout: &mut rollout, deployment: &mut late, occupancy: &mut occupancy };
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
