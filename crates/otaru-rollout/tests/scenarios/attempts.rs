//! Attempts of one device: offers, pauses, and what reports prove.

use otaru_format::status::{Code, UpdateState};
use otaru_rollout::{
    Effect, Event, NotAdmitted, NotNow, Notice, Outcome, Phase, Report, RolloutId, Span, Stage,
};

use crate::story::*;

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

#[test]
fn a_device_that_is_retired_is_no_failure() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.event("a", Event::Remove);
    assert_eq!(story.stage("a"), FINISHED(Outcome::Removed));
    assert_eq!((story.rollout.phase(), story.rollout.verdicts().bad), (Phase::Completed, 0));
}
