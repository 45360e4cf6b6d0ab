//! Reports that are numbered over restarts, the order of offers, and requests to report.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use otaru_device::Clock as _;
use otaru_format::status::{ReportNumber, UpdateState};
use otaru_sim::firmware::Behaviour;
use otaru_sim::geometry::Geometry;
use otaru_sim::lab::dialect::VersionRefusal;
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};

const SIZE: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ALL: &str = "ESP32/ota/update";

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

async fn running(setup: Setup) -> Lab {
    let mut lab = Lab::new(setup, &image("1.0.0")).unwrap();
    lab.serve(&image("1.1.0"));
    lab.power_on();
    lab.ready().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    lab
}

fn numbers(lab: &Lab) -> Vec<ReportNumber> {
    lab.reports().iter().map(|report| report.number().unwrap()).collect()
}

/// Both kinds of broker.
const BROKERS: [Option<VersionRefusal>; 2] = [None, Some(VersionRefusal::Code)];

#[test]
fn reports_rise_in_one_epoch_over_updates_and_losses_of_power() {
    for only_311 in BROKERS {
        run(async {
            let mut lab = running(Setup { only_311, ..Setup::default() }).await;
            lab.update(HOUR).await.unwrap();
            for _ in 0..3 {
                lab.power_on();
                lab.ready().await;
                tokio::time::sleep(MINUTE).await;
            }
            let numbers = numbers(&lab);
            let epochs: BTreeSet<_> = numbers.iter().map(|number| number.epoch).collect();
            assert_eq!(epochs.len(), 1);
            let places: Vec<_> = numbers.iter().map(|number| (number.boots, number.n)).collect();
            assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
            assert_eq!(places.first(), Some(&(1, 1)));
            assert_eq!(places.last().unwrap().0, 5, "the first start, the new image's, and three more");
        });
    }
}

#[test]
fn each_start_is_an_epoch_of_its_own_where_there_is_no_memory() {
    run(async {
        let mut lab = running(Setup {
            geometry: Geometry::default().without_state(),
            chance_varies: true,
            ..Setup::default()
        })
        .await;
        lab.update(HOUR).await.unwrap();
        for _ in 0..3 {
            lab.power_on();
            lab.ready().await;
            tokio::time::sleep(MINUTE).await;
        }
        let numbers = numbers(&lab);
        let epochs: BTreeSet<_> = numbers.iter().map(|number| number.epoch).collect();
        assert_eq!(epochs.len(), 5);
        assert!(numbers.iter().all(|number| number.boots == 1));
    });
}

#[test]
fn devices_draw_unlike_epochs() {
    let epochs: BTreeSet<_> = (1..20)
        .map(|seed| run(async { numbers(&running(Setup { seed, ..Setup::default() }).await)[0].epoch }))
        .collect();
    assert_eq!(epochs.len(), 19);
}

#[test]
fn the_highest_order_that_was_followed_is_reported_and_remembered() {
    run(async {
        let mut lab = running(Setup::default()).await;
        assert_eq!(lab.reports().last().unwrap().order, None);
        lab.broker.publish(ALL, r#"{"url":"http://files/new.bin","order":9007199254740993}"#, false);
        lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.unwrap();
        lab.power_on();
        lab.ready().await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(lab.reports().last().unwrap().order, Some(9_007_199_254_740_993), "beyond 2^53");
    });
}

#[test]
fn a_device_that_is_asked_reports_within_the_spread_and_does_nothing_else() {
    for only_311 in BROKERS {
        run(async {
            let lab = running(Setup { only_311, ..Setup::default() }).await;
            for topic in [ALL.to_owned(), format!("ESP32/ota/{DEVICE}/update")] {
                tokio::time::sleep(2 * MINUTE).await;
                let (before, asked) = (lab.reports(), lab.clock.now());
                lab.broker.publish(&topic, r#"{"report":true,"spread":40}"#, false);
                tokio::time::sleep(Duration::from_secs(42)).await;
                let after = lab.reports();
                assert_eq!(after.len(), before.len() + 1, "{topic}");
                let (old, new) = (before.last().unwrap(), after.last().unwrap());
                assert_eq!(new.state, UpdateState::Idle);
                assert!(new.number().unwrap().n > old.number().unwrap().n);
                assert_eq!(lab.broker.acknowledged().last().map(|at| *at < asked + MINUTE / 2), Some(true));
            }
            assert_eq!(lab.lines(), [""; 0]);
        });
    }
}

#[test]
fn devices_that_are_asked_at_once_answer_at_unlike_moments() {
    let moment = |seed| {
        run(async {
            let lab = running(Setup { seed, ..Setup::default() }).await;
            let asked = lab.clock.now();
            lab.broker.publish(ALL, r#"{"report":true,"spread":1000}"#, false);
            let before = lab.reports().len();
            let mut count = 0;
            lab.wait_for(HOUR, |_| {
                count += 1;
                count > before
            })
            .await
            .unwrap();
            (lab.clock.now() - asked).as_secs()
        })
    };
    let moments: BTreeSet<u64> = (1..20).map(moment).collect();
    assert!(moments.len() > 15 && moments.last() < Some(&1002), "{moments:?}");
}

#[test]
fn a_flood_of_requests_is_answered_once_a_minute() {
    run(async {
        let lab = running(Setup::default()).await;
        let before = lab.reports().len();
        for _ in 0..600 {
            lab.broker.publish(ALL, r#"{"report":true,"spread":0}"#, false);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let answers = lab.reports().len() - before;
        assert!((9..=11).contains(&answers), "{answers} in ten minutes");
    });
}

#[test]
fn a_request_takes_no_commands_place_and_ends_none() {
    run(async {
        let lab = running(Setup::default()).await;
        lab.command();
        for _ in 0..60 {
            lab.broker.publish(ALL, r#"{"report":true,"spread":1}"#, false);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.unwrap();
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn a_retained_request_is_not_answered_again_and_again() {
    run(async {
        let mut lab = running(Setup::default()).await;
        lab.broker.publish(ALL, r#"{"report":true}"#, true);
        tokio::time::sleep(2 * MINUTE).await;
        let before = lab.reports().len();
        lab.power_on();
        lab.ready().await;
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(lab.reports().len(), before + 1, "the report of the start, and no more");
    });
}
