//! Devices that a rollout was done with and that come back: with another image, or after they were retired.

use std::collections::BTreeSet;

use otaru_format::digest::Digest;
use otaru_format::status::UpdateState;
use otaru_rollout::{
    Control, Device, DeviceId, Effect, Event, MAX_RETURNS, NotAdmitted, Outcome, Overlap, Phase, Report,
    RolloutId, Stage, Tags, Verdicts,
};

use crate::story::*;

const CONTINUOUS: &str = r#""continuous": true"#;

impl Story {
    /// A device reports, and is offered to the rollout as a server does it when it runs something else than before.
    fn comes_back(&mut self, id: &str, report: &Report, others: &[Overlap]) -> Result<(), NotAdmitted> {
        let (id_of, tags) = (DeviceId::from(id), Tags::new());
        let brought = self.occupancy[&id_of].brought_by;
        let given = self.of(id).image();
        let device = Device {
            id: &id_of,
            tags: &tags,
            chip: "esp32",
            product: "lamp",
            version: "1.0.0",
            image: report.image,
            reachable: true,
            brought_by: brought.filter(|_| given == report.image),
        };
        self.effects = self.case(id).take_back(&device, report, others)?;
        Ok(())
    }
}

/// The old image again, after a restart.
fn flashed() -> Report {
    says(UpdateState::Idle, old())
}

#[test]
fn a_device_that_comes_back_with_old_firmware_gets_the_new_again() {
    let mut story = Story::new(CONTINUOUS, &["a", "b"]);
    story.update("a", true);
    story.comes_back("a", &flashed(), &[]).unwrap();
    assert_eq!((story.stage("a"), story.of("a").returns()), (Stage::Queued, 1));
    assert_eq!(story.rollout.verdicts(), Verdicts::default(), "it counts as done no longer");
    story.start("a").unwrap();
    assert_eq!(story.of("a").offer().unwrap().to_string(), "r1.2");
    story.hear("a", says(UpdateState::Confirmed, new()));
    assert_eq!(story.stage("a"), FINISHED(Outcome::Succeeded));
    assert_eq!(story.rollout.verdicts().good, 1);
}

#[test]
fn who_keeps_going_back_is_left_alone_until_an_operator_says_otherwise() {
    let mut story = Story::new(r#""continuous": true, "stop": {"failures": 1, "minimum": 1}"#, &["a"]);
    story.update("a", true);
    for _ in 0..MAX_RETURNS {
        story.comes_back("a", &flashed(), &[]).unwrap();
        story.update("a", true);
    }
    story.comes_back("a", &flashed(), &[]).unwrap();
    assert_eq!(story.stage("a"), FINISHED(Outcome::KeepsGoingBack));
    let over = Effect::Finished { device: DeviceId::from("a"), outcome: Outcome::KeepsGoingBack };
    assert_eq!(story.effects, [over], "other rollouts may have it");
    assert_eq!(story.rollout.verdicts(), Verdicts::default(), "a cable proves nothing about the image");
    assert_eq!(story.rollout.tallies()[0].keeps_going_back, 1);
    story.control(Control::Tick);
    assert_eq!(story.rollout.phase(), Phase::Running);
    assert_eq!(story.comes_back("a", &flashed(), &[]), Err(NotAdmitted::Over));
    story.event("a", Event::Retry { force: false });
    story.update("a", true);
    story.comes_back("a", &flashed(), &[]).unwrap();
    assert_eq!(story.of("a").returns(), 1, "the count began anew");
}

#[test]
fn a_rollout_that_ends_lets_devices_go_where_they_like() {
    let mut story = Story::new("", &["a", "b"]);
    story.update("a", true);
    assert_eq!(story.comes_back("a", &flashed(), &[]), Err(NotAdmitted::Over));
    let mut story = Story::new(CONTINUOUS, &["a"]);
    story.update("a", true);
    story.control(Control::Finish);
    assert_eq!(story.comes_back("a", &flashed(), &[]), Err(NotAdmitted::Closed));
}

#[test]
fn what_was_rolled_back_is_never_begun_again_by_itself() {
    let mut story = Story::new(CONTINUOUS, &["a", "b"]);
    story.update("a", false);
    assert_eq!(story.comes_back("a", &flashed(), &[]), Err(NotAdmitted::Over));
    story.update("b", true);
    assert_eq!(story.comes_back("b", &rolled_back(), &[]), Err(NotAdmitted::RolledBack));
    let unreadable = Report { rolled_back: Some(Digest::ZERO), ..rolled_back() };
    assert_eq!(story.comes_back("b", &unreadable, &[]), Err(NotAdmitted::RolledBack));
    // A retry that an operator forced once forces nothing later.
    let mut story = Story::new(CONTINUOUS, &["a"]);
    story.update("a", false);
    story.event("a", Event::Retry { force: true });
    story.update("a", true);
    story.comes_back("a", &flashed(), &[]).unwrap();
    story.start("a").unwrap();
    assert!(matches!(&story.effects[..], [Effect::Offer { force: false, .. }]));
}

#[test]
fn a_trial_is_not_something_else_yet() {
    let mut story = Story::new(CONTINUOUS, &["a"]);
    story.update("a", true);
    let other = Digest::of(b"other");
    assert_eq!(story.comes_back("a", &says(UpdateState::Trial, other), &[]), Err(NotAdmitted::OnTrial));
    assert_eq!(story.comes_back("a", &says(UpdateState::Confirmed, new()), &[]), Err(NotAdmitted::Current));
    story.comes_back("a", &says(UpdateState::Confirmed, other), &[]).unwrap();
}

#[test]
fn a_newer_rollout_keeps_what_it_brought() {
    let mut story = Story::new(CONTINUOUS, &["a"]);
    story.update("a", true);
    // Rollout 2 was followed since.
    story.occupancy.get_mut(&DeviceId::from("a")).unwrap().brought_by = Some(RolloutId(2));
    let newer = says(UpdateState::Confirmed, Digest::of(b"newer"));
    assert_eq!(story.comes_back("a", &newer, &[]), Err(NotAdmitted::Outranked(RolloutId(2))));
    // So does one that the device had not been in.
    let (id, tags) = (DeviceId::from("b"), Tags::new());
    let device = |brought_by| Device {
        id: &id,
        tags: &tags,
        chip: "esp32",
        product: "lamp",
        version: "2.0.0",
        image: newer.image,
        reachable: true,
        brought_by,
    };
    let joins =
        |story: &mut Story, by| otaru_rollout::admit(&mut story.rollout, &device(by), &[], None).map(|_| ());
    assert_eq!(joins(&mut story, Some(RolloutId(2))), Err(NotAdmitted::Outranked(RolloutId(2))));
    assert_eq!(joins(&mut story, Some(RolloutId(0))), Ok(()), "an older one has had its time");
}

#[test]
fn another_rollout_that_comes_first_has_the_device_before_it_comes_back() {
    let mut story = Story::new(CONTINUOUS, &["a"]);
    story.update("a", true);
    let first = Overlap { rollout: RolloutId(0), priority: 1 };
    assert_eq!(story.comes_back("a", &flashed(), &[first]), Err(NotAdmitted::Outranked(RolloutId(0))));
    assert_eq!(story.of("a").returns(), 0);
    let last = Overlap { rollout: RolloutId(0), priority: 0 };
    story.comes_back("a", &flashed(), &[last]).unwrap();
    let supersede =
        Effect::Supersede { device: DeviceId::from("a"), rollout: RolloutId(0), by: RolloutId(1) };
    assert_eq!(story.effects, [supersede]);
}

#[test]
fn a_device_that_is_no_target_any_more_is_let_go() {
    let mut story = Story::new(r#""continuous": true, "target": {"devices": ["a"]}"#, &["a"]);
    story.update("a", true);
    story.rollout = {
        let mut row = serde_json::to_value(&story.rollout).unwrap();
        row["spec"]["target"]["devices"] = serde_json::to_value(BTreeSet::from(["b"])).unwrap();
        serde_json::from_value(row).unwrap()
    };
    assert_eq!(story.comes_back("a", &flashed(), &[]), Err(NotAdmitted::NotTargeted));
}

#[test]
fn verdicts_that_an_operator_forgave_and_that_are_taken_back_hide_no_new_ones() {
    let mut story = Story::new(
        r#""continuous": true, "stop": {"failures": 50, "minimum": 4}"#,
        &["a", "b", "c", "d", "e"],
    );
    for (device, good) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        story.update(device, good);
    }
    assert_eq!(story.rollout.phase(), Phase::Stopped);
    story.control(Control::Resume);
    // What is known is two good and two bad; one of the good is made again.
    story.comes_back("a", &flashed(), &[]).unwrap();
    story.update("a", true);
    story.update("e", false);
    assert_eq!(story.rollout.phase(), Phase::Running, "one good and one bad since");
}

#[test]
fn who_was_retired_and_is_taken_back_is_in_it_again() {
    let mut story = Story::new("", &["a", "b"]);
    story.start("a").unwrap();
    story.event("a", Event::Remove);
    assert_eq!(story.stage("a"), FINISHED(Outcome::Removed));
    story.comes_back("a", &flashed(), &[]).unwrap();
    assert_eq!((story.stage("a"), story.of("a").returns()), (Stage::Queued, 0));
    story.start("a").unwrap();
    assert_eq!(story.of("a").offer().unwrap().to_string(), "r1.2");
    story.event("a", Event::Remove);
    assert_eq!(story.comes_back("a", &says(UpdateState::Confirmed, new()), &[]), Err(NotAdmitted::Current));
}
