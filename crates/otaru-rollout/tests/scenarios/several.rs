//! Several rollouts for one device, and the way back of a fleet.

use otaru_format::digest::Digest;
use otaru_format::status::{Code, UpdateState};
use otaru_rollout::{
    Control, DeviceId, Effect, Event, NotAdmitted, NotNow, Occupancy, Outcome, Overlap, RolloutId, Stage,
};

use crate::story::*;
use crate::trials::tries_again;

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

    story
        .occupancy
        .insert(DeviceId::from("c"), Occupancy { active: Some(RolloutId(0)), ..Occupancy::default() });
    assert_eq!(story.start("c"), Err(NotNow::Occupied(RolloutId(0))));

    story.event("a", Event::Supersede(RolloutId(2)));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Superseded));
    story.start("b").unwrap();
    story.event("b", Event::Supersede(RolloutId(2)));
    assert!(story.of("b").is_active());
    story.hear("b", fails("r1.1", UpdateState::Failed, Code::Dns));
    assert_eq!(story.stage("b"), FINISHED(Outcome::Superseded), "it does not try again");
}

/// Says whether the device's deployment counts for other rollouts.
fn overlaps(story: &Story, id: &str) -> bool {
    Overlap::with(&story.rollout, story.of(id)).is_some()
}

#[test]
fn a_rollout_that_ends_gives_back_what_it_has_not_started() {
    for end in [Control::Abort { cancel: true }, Control::Abort { cancel: false }, Control::Finish] {
        let mut story = Story::new("", &["a", "b", "c"]);
        story.start("a").unwrap();
        story.update("c", true);
        assert!(overlaps(&story, "a") && overlaps(&story, "b") && !overlaps(&story, "c"));
        story.control(end);
        // No deployment was told yet.
        assert!(story.of("a").is_active() && story.stage("b") == Stage::Queued);
        assert!(overlaps(&story, "a"), "it may still succeed, and must not be undone then");
        assert!(!overlaps(&story, "b"), "it is cancelled in a moment");
    }
}

#[test]
fn what_comes_first_does_not_wait_for_trials_that_begin_later() {
    let mut story = Story::new("", &["a"]);
    story.start("a").unwrap();
    story.event("a", Event::Supersede(RolloutId(2)));
    assert!(story.of("a").is_active(), "an update that is under way goes on");
    story.hear("a", tries_again(1));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Superseded));
    assert_eq!(story.withdrawals(), 1);
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
