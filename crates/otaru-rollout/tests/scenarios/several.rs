//! Several rollouts for one device, and the way back of a fleet.

use otaru_format::digest::Digest;
use otaru_format::status::{Code, UpdateState};
use otaru_rollout::{
    Control, DeviceId, Effect, Event, NotAdmitted, NotNow, Occupancy, Outcome, Overlap, RolloutId,
};

use crate::story::*;

#[test]
fn the_higher_priority_takes_what_is_queued_and_waits_for_what_runs() {
    let mut story = Story::new("", &["a", "b"]);
    let other = |priority, rollout| [Overlap { rollout: RolloutId(rollout), priority, is_open: true }];
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

/// The device's deployments in rollout 2, which comes first and takes nobody any more.
fn in_one_that_ends() -> [Overlap; 1] {
    [Overlap { rollout: RolloutId(2), priority: 0, is_open: false }]
}

#[test]
fn what_a_rollout_that_ends_has_not_begun_is_free_at_once() {
    let mut story = Story::new("", &["z"]);
    story.join_with("a", true, old(), &in_one_that_ends(), None).unwrap();
    assert!(matches!(
        &story.effects[..],
        [Effect::Supersede { rollout: RolloutId(2), by: RolloutId(1), .. }]
    ));
    story.start("a").unwrap();
    assert_eq!(story.offers(), 1);

    // Seen from the one that ends: its own end was first.
    let mut ended = Story::new("", &["a"]);
    ended.control(Control::Abort { cancel: true });
    ended.event("a", Event::Supersede(RolloutId(2)));
    assert_eq!(ended.stage("a"), FINISHED(Outcome::Cancelled));
}

#[test]
fn what_a_rollout_that_ends_has_begun_is_waited_for() {
    let mut story = Story::new("", &["z"]);
    story.join_with("a", true, old(), &in_one_that_ends(), None).unwrap();
    let occupied = Occupancy { active: Some(RolloutId(2)), ..Occupancy::default() };
    story.occupancy.insert(DeviceId::from("a"), occupied);
    assert_eq!(story.start("a"), Err(NotNow::Occupied(RolloutId(2))));
    story.occupancy.insert(DeviceId::from("a"), Occupancy::default());
    story.start("a").unwrap();
}

#[test]
fn what_a_rollout_that_ended_brings_all_the_same_is_not_undone_by_an_older_one() {
    for (by, superseded) in [(RolloutId(0), 1), (RolloutId(2), 0)] {
        let mut ended = Story::new("", &["a"]);
        ended.start("a").unwrap();
        ended.control(Control::Abort { cancel: true });
        ended.event("a", Event::Supersede(by));
        assert!(ended.of("a").is_active());
        ended.hear("a", says(UpdateState::Confirmed, new()));
        assert_eq!(ended.stage("a"), FINISHED(Outcome::Succeeded));
        let told = |effect: &&Effect| matches!(effect, Effect::Supersede { rollout, by: RolloutId(1), .. } if *rollout == by);
        assert_eq!(ended.effects.iter().filter(told).count(), superseded, "by {by:?}");
    }
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
