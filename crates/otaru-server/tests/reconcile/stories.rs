//! Every rule by a story.

use otaru_format::status::{Code, FailedImage, UpdateState};
use otaru_rollout::{Control, DeviceId, Phase};
use otaru_server::devices::edit;
use otaru_server::rollouts::operate;
use serde_json::{Value, json};

use crate::lab::{Lab, START, image, operator};

/// A device does what it was offered.
async fn follows(lab: &Lab, device: &str, version: &str) {
    let offers = lab.sent(device);
    let offer = offers.last().unwrap_or_else(|| panic!("{device} was offered nothing"));
    let name = offer["deployment"].as_str().unwrap();
    assert!(offer["url"].as_str().unwrap().starts_with("http://server/files/"), "{offer}");
    lab.reports(device, UpdateState::Downloading, "1.0.0", Some(name)).await;
    lab.reports(device, UpdateState::Trial, version, None).await;
    lab.reports(device, UpdateState::Confirmed, version, None).await;
}

#[tokio::test]
async fn a_device_that_is_away_waits_and_gets_it_when_it_comes() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    lab.comes("b", false).await;
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    assert_eq!(
        (lab.standing(id, "a").await.as_str(), lab.standing(id, "b").await.as_str()),
        ("active", "waiting")
    );
    follows(&lab, "a", "1.1.0").await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Running, "it waits for the one that is away");
    lab.comes("b", true).await;
    lab.work().await;
    follows(&lab, "b", "1.1.0").await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Completed);
}

#[tokio::test]
async fn a_device_that_connects_anew_is_offered_again() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.roll_out(2, json!({})).await;
    lab.work().await;
    assert_eq!(lab.sent("a").len(), 1);
    // The broker lost it, and the device was never seen to go.
    lab.comes("a", true).await;
    lab.work().await;
    let again = lab.sent("a");
    assert_eq!((again.len(), &again[0]["deployment"]), (1, &json!("r1.1")), "the same attempt");
}

#[tokio::test]
async fn a_device_that_was_said_to_be_gone_and_reports_is_there() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    // The last will of its old connection came after the first word of its new one.
    lab.comes("a", false).await;
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    lab.reports("a", UpdateState::Confirmed, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "waiting", "what the broker had kept shows nothing");
    lab.live = true;
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "active");
}

#[tokio::test]
async fn offers_wait_for_a_broker_that_is_away() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.broker_is_away(true);
    lab.roll_out(2, json!({})).await;
    lab.work().await;
    assert!(lab.sent("a").is_empty());
    lab.restart();
    lab.broker_is_away(false);
    lab.work().await;
    assert_eq!(lab.sent("a").len(), 1);
    lab.work().await;
    assert!(lab.sent("a").is_empty(), "once");
}

#[tokio::test]
async fn an_offer_that_does_not_stand_any_more_is_not_sent() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    lab.broker_is_away(true);
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    // It got the image some other way meanwhile.
    lab.reports("a", UpdateState::Confirmed, "1.1.0", None).await;
    lab.broker_is_away(false);
    lab.work().await;
    assert!(lab.sent("a").is_empty());
    assert_eq!(lab.phase(id).await, Phase::Completed);
}

#[tokio::test]
async fn the_first_of_two_rollouts_has_the_device_and_the_other_is_superseded() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    let low = lab.roll_out(2, json!({"limits": {"concurrency": 1}})).await;
    lab.work().await;
    let (first, second) = if lab.standing(low, "a").await == "active" { ("a", "b") } else { ("b", "a") };
    let high = lab.roll_out(3, json!({"priority": 5})).await;
    lab.work().await;
    assert_eq!(lab.standing(low, second).await, "superseded");
    assert_eq!(lab.standing(low, first).await, "active", "what is under way goes on");
    assert_eq!(lab.standing(high, first).await, "ready");
    follows(&lab, first, "1.1.0").await;
    lab.work().await;
    follows(&lab, first, "1.2.0").await;
    follows(&lab, second, "1.2.0").await;
    lab.work().await;
    assert_eq!((lab.phase(low).await, lab.phase(high).await), (Phase::Completed, Phase::Completed));
}

#[tokio::test]
async fn what_fails_is_tried_again_after_a_pause_and_by_hand() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let rules = json!({"attempts": {"count": 2, "timeout": 60_000, "backoff": 10_000}, "continuous": true});
    let id = lab.roll_out(2, rules).await;
    for attempt in 1..=2 {
        lab.work().await;
        assert_eq!(lab.sent("a")[0]["deployment"], json!(format!("r1.{attempt}")));
        let name = format!("r1.{attempt}");
        lab.reports_with("a", UpdateState::Failed, "1.0.0", Some(&name), Some(Code::Timeout)).await;
        lab.work().await;
        assert!(lab.sent("a").is_empty(), "not at once");
        lab.shift(60_000);
    }
    assert_eq!(lab.standing(id, "a").await, "failed");
    let now = lab.app.clock.now();
    let device = DeviceId::from("a");
    let retried = lab.app.db.write(move |tx| operate::retry(tx, &operator(), id, &device, false, now));
    retried.await.unwrap();
    lab.work().await;
    assert_eq!(lab.sent("a")[0]["deployment"], json!("r1.3"));
    assert_eq!(lab.standing(id, "a").await, "active");
}

#[tokio::test]
async fn a_stop_starts_nobody_and_an_abort_with_cancel_tells_those_under_way() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b", "c"]).await;
    let id =
        lab.roll_out(2, json!({"limits": {"concurrency": 2}, "stop": {"failures": 50, "minimum": 1}})).await;
    lab.work().await;
    let active: Vec<&str> = {
        let mut active = Vec::new();
        for device in ["a", "b", "c"] {
            if lab.standing(id, device).await == "active" {
                active.push(device);
            }
        }
        active
    };
    assert_eq!(active.len(), 2);
    lab.reports_with(active[0], UpdateState::Refused, "1.0.0", Some("r1.1"), Some(Code::WrongChip)).await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Stopped);
    assert_eq!(lab.rollout(id).await.active(), 1, "nobody took the place");
    drop(lab.sent(active[1]));
    lab.control(id, Control::Abort { cancel: true }).await.unwrap();
    lab.restart();
    lab.work().await;
    assert_eq!(lab.sent(active[1]), [json!({"cancel": true})]);
    lab.reports(active[1], UpdateState::Cancelled, "1.0.0", Some("r1.1")).await;
    lab.work().await;
    assert_eq!(lab.rollout(id).await.open(), 0);
    assert!(lab.control(id, Control::Resume).await.is_err(), "over is over");
}

#[tokio::test]
async fn a_device_that_joins_later_and_one_that_is_retired() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    follows(&lab, "a", "1.1.0").await;
    lab.fleet(&["late"]).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "late").await, "active");
    let now = lab.app.clock.now();
    let retired = lab.app.db.write(move |tx| edit::retire(tx, &operator(), &DeviceId::from("late"), now));
    drop(retired.await.unwrap());
    lab.work().await;
    assert_eq!(lab.standing(id, "late").await, "removed");
    // Whatever it says now is nobody's.
    lab.reports("late", UpdateState::Confirmed, "1.1.0", None).await;
    assert_eq!(lab.standing(id, "late").await, "removed");
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nobody() {
    const DAY: i64 = 24 * 3_600_000;
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    let rules = json!({"attempts": {"count": 3, "timeout": 60_000, "backoff": 10_000}, "limits": {"starts_per_minute": 12}});
    let id = lab.roll_out(2, rules).await;
    lab.work().await;
    drop(lab.sent("b"));
    follows(&lab, "a", "1.1.0").await;
    // A day back: the other's time would be over a day late.
    lab.shift(-DAY);
    lab.restart();
    lab.work().await;
    assert_eq!(lab.standing(id, "b").await, "active");
    lab.tick_all().await;
    lab.shift(61_000);
    lab.work().await;
    assert_eq!(lab.standing(id, "b").await, "ready", "its time was over after a minute all the same");
    // And two days ahead.
    lab.shift(2 * DAY);
    lab.work().await;
    follows(&lab, "b", "1.1.0").await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Completed);
}

#[tokio::test]
async fn a_hint_that_comes_twice_or_late_changes_nothing() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    follows(&lab, "a", "1.1.0").await;
    lab.work().await;
    for _ in 0..2 {
        lab.reports("a", UpdateState::Downloading, "1.0.0", Some("r1.1")).await;
        lab.reports_with("a", UpdateState::Failed, "1.0.0", Some("r1.1"), Some(Code::Timeout)).await;
        lab.comes("a", false).await;
        lab.comes("a", true).await;
        lab.work().await;
    }
    assert_eq!(lab.standing(id, "a").await, "succeeded");
    assert!(lab.sent("a").is_empty());
}

const HOUR: i64 = 3_600_000;

/// The old image says how often the new one did not reach the broker; the device has forgotten the offer.
async fn misses(lab: &Lab, device: &str, trials: u8) {
    let state = if trials < 5 { UpdateState::Retrying } else { UpdateState::Failed };
    let mut report = Lab::status(device, state, "1.0.0", None, Some(Code::Unreachable));
    report.attempt = trials;
    report.failed = Some(FailedImage { version: "1.1.0".into(), image: image("1.1.0"), boots: 1 });
    lab.report(device, report).await;
}

#[tokio::test]
async fn a_device_that_tries_again_is_left_in_peace_for_days_and_its_end_counts() {
    for good in [true, false] {
        let mut lab = Lab::new().await;
        lab.live = true;
        lab.fleet(&["a"]).await;
        let id = lab.roll_out(2, json!({})).await;
        lab.work().await;
        let name = lab.sent("a")[0]["deployment"].as_str().unwrap().to_owned();
        lab.reports("a", UpdateState::Downloading, "1.0.0", Some(&name)).await;
        lab.reports("a", UpdateState::Restarting, "1.0.0", Some(&name)).await;
        lab.comes("a", false).await;
        // The broker is away for longer than an attempt may take.
        lab.shift(2 * HOUR);
        lab.work().await;
        assert_eq!(lab.standing(id, "a").await, "retrying");
        for trials in 1..=4 {
            lab.comes("a", true).await;
            misses(&lab, "a", trials).await;
            if trials == 2 {
                lab.restart();
                lab.live = true;
            }
            for _ in 0..25 {
                lab.shift(HOUR);
                lab.work().await;
                lab.tick_all().await;
            }
            assert_eq!(lab.standing(id, "a").await, "retrying");
            // It comes back without having been seen to go, and tells the same again.
            lab.comes("a", true).await;
            misses(&lab, "a", trials).await;
            lab.work().await;
            assert!(
                lab.sent("a").is_empty(),
                "neither an offer, which would begin the count anew, nor a cancellation"
            );
            lab.comes("a", false).await;
            lab.check().await;
        }
        lab.comes("a", true).await;
        if good {
            lab.reports("a", UpdateState::Confirmed, "1.1.0", None).await;
        } else {
            misses(&lab, "a", 5).await;
        }
        lab.work().await;
        assert_eq!(lab.standing(id, "a").await, if good { "succeeded" } else { "failed" });
        assert_eq!(lab.phase(id).await, Phase::Completed);
        assert!(lab.sent("a").is_empty());
        lab.check().await;
    }
}

#[tokio::test]
async fn an_offer_that_waits_in_the_outbox_is_not_sent_to_a_device_that_tries_again() {
    let mut lab = Lab::new().await;
    lab.live = true;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    assert_eq!(lab.sent("a").len(), 1);
    lab.broker_is_away(true);
    lab.comes("a", true).await;
    misses(&lab, "a", 1).await;
    lab.broker_is_away(false);
    lab.work().await;
    assert!(lab.sent("a").is_empty());
    assert_eq!(lab.standing(id, "a").await, "retrying");
}

#[tokio::test]
async fn an_absence_of_the_broker_holds_a_rollout_and_does_not_stop_it() {
    let mut lab = Lab::new().await;
    lab.live = true;
    lab.fleet(&["a", "b", "c", "d", "e", "f"]).await;
    let rules = json!({
        "stop": {"failures": 50, "minimum": 2}, "limits": {"concurrency": 3},
        "waves": [{"size": {"devices": 4}, "gate": {"auto": {"success": 100}}}],
    });
    let id = lab.roll_out(2, rules).await;
    lab.work().await;
    let mut begun = Vec::new();
    for device in ["a", "b", "c", "d", "e", "f"] {
        if lab.standing(id, device).await == "active" {
            begun.push(device);
            misses(&lab, device, 1).await;
        }
    }
    assert_eq!(begun.len(), 3);
    for _ in 0..30 {
        lab.shift(HOUR);
        lab.work().await;
    }
    let held = lab.rollout(id).await;
    assert_eq!((held.phase(), held.wave(), held.verdicts().all()), (Phase::Running, 0, 0));
    assert!(held.is_held_by_retries());
    assert_eq!(
        held.tallies().iter().map(|tally| tally.active).sum::<u32>(),
        0,
        "nobody else is drawn into it"
    );
    for device in begun {
        lab.reports(device, UpdateState::Confirmed, "1.1.0", None).await;
    }
    lab.work().await;
    for device in ["a", "b", "c", "d", "e", "f"] {
        if lab.standing(id, device).await == "active" {
            follows(&lab, device, "1.1.0").await;
            lab.work().await;
        }
    }
    for device in ["a", "b", "c", "d", "e", "f"] {
        if lab.standing(id, device).await == "active" {
            follows(&lab, device, "1.1.0").await;
            lab.work().await;
        }
    }
    assert_eq!(lab.phase(id).await, Phase::Completed);
}

#[tokio::test]
async fn a_crash_loop_ends_the_deployment_and_no_reconnection_begins_it_anew() {
    let mut lab = Lab::new().await;
    lab.live = true;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    lab.reports("a", UpdateState::Checking, "1.0.0", Some("r1.1")).await;
    drop(lab.sent("a"));
    for _ in 0..3 {
        lab.comes("a", true).await;
        lab.work().await;
    }
    lab.reports_with("a", UpdateState::Failed, "1.0.0", None, Some(Code::Crashed)).await;
    assert_eq!(lab.standing(id, "a").await, "failed");
    for _ in 0..30 {
        lab.comes("a", true).await;
        lab.reports_with("a", UpdateState::Failed, "1.0.0", None, Some(Code::Crashed)).await;
        lab.shift(HOUR);
        lab.work().await;
    }
    assert!(lab.sent("a").is_empty());
}

#[tokio::test]
async fn a_device_that_is_taken_back_is_asked_to_report() {
    let mut lab = Lab::new().await;
    lab.fleet(&["old"]).await;
    let mut status = Lab::status("new", UpdateState::Idle, "1.0.0", None, None);
    (status.epoch, status.boots, status.n) = (Some(otaru_format::status::Epoch(7)), Some(1), Some(1));
    lab.comes("new", true).await;
    lab.report("new", status).await;
    for device in ["old", "new"] {
        let now = otaru_rollout::Time(START);
        let done = lab.app.db.write(move |tx| {
            let device = DeviceId::from(device);
            edit::retire(tx, &operator(), &device, now)?;
            edit::unretire(tx, &operator(), &device, now)
        });
        drop(done.await.unwrap());
    }
    lab.work().await;
    // Firmware that does not number its reports would take it for a command.
    assert!(lab.sent("old").is_empty());
    let asked = lab.sent("new");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].get("report").is_some(), "{asked:?}");
}

#[tokio::test]
async fn a_device_that_crashes_before_its_first_word_is_not_offered_without_end() {
    let mut lab = Lab::new().await;
    lab.live = true;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"attempts": {"count": 2}})).await;
    let mut offers = 0;
    for _ in 0..2_000 {
        lab.comes("a", true).await;
        lab.shift(60_000);
        lab.work().await;
        offers += lab.sent("a").iter().filter(|message| message.get("url").is_some()).count();
    }
    assert_eq!(lab.standing(id, "a").await, "timed_out");
    assert!(offers <= 22, "{offers}");
}

#[tokio::test]
async fn a_board_that_comes_back_with_old_firmware_is_brought_forward_three_times() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    follows(&lab, "a", "1.1.0").await;
    for attempt in 2..=4 {
        assert_eq!(lab.standing(id, "a").await, "succeeded");
        // Flashed by cable, over night.
        lab.comes("a", false).await;
        lab.comes("a", true).await;
        lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
        assert_eq!(lab.standing(id, "a").await, "ready");
        lab.work().await;
        let offers = lab.sent("a");
        assert_eq!(offers[0]["deployment"], json!(format!("r1.{attempt}")));
        lab.reports("a", UpdateState::Trial, "1.1.0", None).await;
        assert_eq!(lab.standing(id, "a").await, "active");
        lab.reports("a", UpdateState::Confirmed, "1.1.0", None).await;
    }
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "keeps_going_back");
    assert!(lab.sent("a").is_empty());
    assert_eq!(lab.phase(id).await, Phase::Running, "it is nobody's failure");
    // A restart does not begin the count anew, an operator does.
    lab.restart();
    lab.reports("a", UpdateState::Confirmed, "1.1.0", None).await;
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "keeps_going_back");
    let now = lab.app.clock.now();
    let retried =
        lab.app.db.write(move |tx| operate::retry(tx, &operator(), id, &DeviceId::from("a"), false, now));
    retried.await.unwrap();
    lab.work().await;
    assert_eq!(lab.sent("a")[0]["deployment"], json!("r1.5"));
}

#[tokio::test]
async fn a_board_that_had_the_image_already_is_brought_forward_too() {
    let mut lab = Lab::new().await;
    lab.comes("a", true).await;
    lab.reports("a", UpdateState::Idle, "1.1.0", None).await;
    let id = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "none");
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "active");
}

#[tokio::test]
async fn an_older_rollout_that_goes_on_does_not_undo_a_newer_one() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    // This one had the older rollout's image already.
    lab.comes("b", true).await;
    lab.reports("b", UpdateState::Idle, "1.1.0", None).await;
    let older = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    follows(&lab, "a", "1.1.0").await;
    let newer = lab.roll_out(3, json!({})).await;
    lab.work().await;
    for device in ["a", "b"] {
        follows(&lab, device, "1.2.0").await;
    }
    for _ in 0..2 {
        lab.work().await;
        assert!(lab.sent("a").is_empty() && lab.sent("b").is_empty());
    }
    assert_eq!(lab.phase(newer).await, Phase::Completed);
    assert_eq!(
        (lab.standing(older, "a").await, lab.standing(older, "b").await),
        ("succeeded".into(), "none".into())
    );
    // What lost the newer image is the older one's again where that takes whoever joins.
    lab.reports("b", UpdateState::Idle, "1.0.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(older, "b").await, "active");
}

#[tokio::test]
async fn a_trial_by_other_means_is_waited_for() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"continuous": true})).await;
    lab.work().await;
    follows(&lab, "a", "1.1.0").await;
    // Somebody published a URL.
    lab.reports("a", UpdateState::Trial, "1.2.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "succeeded");
    lab.reports("a", UpdateState::Confirmed, "1.2.0", None).await;
    lab.work().await;
    assert_eq!(lab.standing(id, "a").await, "active", "the rollout says what it runs");
}

#[tokio::test]
async fn a_device_that_was_retired_by_mistake_is_in_its_rollout_again() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a", "b"]).await;
    let id = lab.roll_out(2, json!({})).await;
    lab.work().await;
    let now = lab.app.clock.now();
    let retired = lab.app.db.write(move |tx| edit::retire(tx, &operator(), &DeviceId::from("a"), now));
    retired.await.unwrap();
    assert_eq!(lab.standing(id, "a").await, "removed");
    let back = lab.app.db.write(move |tx| edit::unretire(tx, &operator(), &DeviceId::from("a"), now));
    back.await.unwrap();
    assert_eq!(lab.standing(id, "a").await, "waiting", "it is away until it is heard");
    lab.comes("a", true).await;
    lab.work().await;
    follows(&lab, "b", "1.1.0").await;
    follows(&lab, "a", "1.1.0").await;
    lab.work().await;
    assert_eq!((lab.standing(id, "a").await.as_str(), lab.phase(id).await), ("succeeded", Phase::Completed));
}

#[tokio::test]
async fn a_report_that_says_the_same_again_is_no_change_of_the_device() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let changed = async |lab: &Lab| {
        let sql = "SELECT last_seen, reported_at FROM devices WHERE id = 'a'";
        let read = lab.app.db.read(move |tx| tx.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?))));
        let moments: (i64, i64) = read.await.unwrap();
        moments
    };
    let (before, _) = changed(&lab).await;
    // Nothing of what it said is in memory.
    lab.restart();
    lab.shift(60_000);
    lab.reports("a", UpdateState::Idle, "1.0.0", None).await;
    assert_eq!(changed(&lab).await, (before, before + 60_000), "it was heard");
    lab.reports("a", UpdateState::Idle, "1.1.0", None).await;
    assert_eq!(changed(&lab).await.0, before + 60_000);
}

/// An earlier version took a share of 0 %, with a time to begin.
#[tokio::test]
async fn a_rollout_that_makes_no_sense_does_not_begin_when_its_time_comes() {
    let mut lab = Lab::new().await;
    lab.fleet(&["a"]).await;
    let id = lab.roll_out(2, json!({"start_at": START + 60_000})).await;
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Scheduled);
    let spoiled = lab.app.db.write(|tx| {
        let state: String = tx.query_row("SELECT state FROM rollouts", (), |row| row.get(0))?;
        let mut state: Value = serde_json::from_str(&state).unwrap();
        state["spec"]["target"]["percent"] = 0.into();
        tx.execute("UPDATE rollouts SET state = ?", [state.to_string()])
    });
    spoiled.await.unwrap();
    lab.shift(120_000);
    lab.work().await;
    assert_eq!(lab.phase(id).await, Phase::Scheduled, "nor does it end for nobody");
    let told = lab.app.db.read(|tx| {
        let sql = "SELECT count(*) FROM rollout_events WHERE event LIKE '%\"waits\"%the smallest share%'";
        tx.query_row(sql, (), |row| row.get::<i64>(0))
    });
    assert_eq!(told.await.unwrap(), 1);
}
