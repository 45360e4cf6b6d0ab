//! Brokers that speak MQTT 3.1.1 only: how a device finds that out, and what it counts as proof there.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_device::{Clock as _, MqttVersion};
use otaru_format::status::{Code, UpdateState};
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::broker::ReasonCode;
use otaru_sim::lab::dialect::{EchoPolicy, VersionRefusal};
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};

const SIZE: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ALL: &str = "ESP32/ota/update";

fn image(version: &str) -> Vec<u8> {
    firmware(version, SIZE, Behaviour::Healthy)
}

fn speaking(mqtt: MqttVersion) -> Setup {
    let mut setup = Setup::default();
    setup.config.mqtt = mqtt;
    setup
}

/// A lab with a broker of 3.1.1, whose device is off.
fn lab(refusal: VersionRefusal) -> Lab {
    let lab = Lab::new(Setup { only_311: Some(refusal), ..Setup::default() }, &image("1.0.0")).unwrap();
    lab.serve(&image("1.1.0"));
    lab
}

async fn running(refusal: VersionRefusal, echo: EchoPolicy) -> Lab {
    let mut lab = lab(refusal);
    lab.broker.echo(echo);
    lab.power_on();
    lab.ready().await;
    lab
}

fn starts(lab: &Lab) -> usize {
    lab.events().iter().filter(|event| matches!(event, Event::Booted { .. })).count()
}

/// Waits until the device has connected so often, and gives back the versions it asked for.
async fn levels(lab: &Lab, count: usize) -> Vec<u8> {
    let end = tokio::time::Instant::now() + HOUR;
    while lab.broker.levels().len() < count {
        assert!(tokio::time::Instant::now() < end, "{:?}", lab.broker.levels());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    lab.broker.levels()
}

#[test]
fn a_broker_that_says_so_is_spoken_to_in_3_1_1_at_once() {
    for refusal in [VersionRefusal::Code, VersionRefusal::Reason] {
        run(async {
            let lab = running(refusal, EchoPolicy::Granted).await;
            assert_eq!(lab.broker.levels(), [5, 4]);
            assert!(
                lab.clock.now() < Duration::from_secs(3),
                "no pause stands between: {:?}",
                lab.clock.now()
            );
        });
    }
}

#[test]
fn a_broker_that_closes_without_a_word_is_asked_twice() {
    run(async {
        let lab = running(VersionRefusal::Silence, EchoPolicy::Granted).await;
        assert_eq!(lab.broker.levels(), [5, 5, 4]);
    });
}

#[test]
fn updates_work_with_each_kind_of_broker() {
    let echoes = [EchoPolicy::Granted, EchoPolicy::Denied, EchoPolicy::Closes, EchoPolicy::Ignored];
    for (refusal, echo) in
        VersionRefusal::ALL.into_iter().flat_map(|refusal| echoes.map(|echo| (refusal, echo)))
    {
        run(async {
            let lab = running(refusal, echo).await;
            let end = lab.update(HOUR).await;
            let end = end.map(|status| (status.state, status.version));
            assert_eq!(end, Some((UpdateState::Confirmed, "1.1.0".into())), "{refusal:?} {echo:?}");
            assert_eq!(starts(&lab), 2, "{refusal:?} {echo:?}");
        });
    }
}

#[test]
fn a_version_that_was_chosen_is_the_only_one() {
    for (mqtt, level) in [(MqttVersion::V5, 5), (MqttVersion::V311, 4)] {
        run(async {
            let mut lab = Lab::new(speaking(mqtt), &image("1.0.0")).unwrap();
            lab.broker.refuse(Some(ReasonCode::UnsupportedProtocolVersion));
            lab.power_on();
            assert_eq!(levels(&lab, 6).await, [level; 6]);
            lab.broker.refuse(None);
            lab.ready().await;
        });
    }
}

#[test]
fn a_login_error_a_refusal_and_a_bad_network_change_nothing() {
    for reason in
        [ReasonCode::BadUsernameOrPassword, ReasonCode::NotAuthorized, ReasonCode::ServerUnavailable]
    {
        run(async {
            let mut lab = Lab::new(Setup::default(), &image("1.0.0")).unwrap();
            lab.broker.refuse(Some(reason));
            lab.power_on();
            assert_eq!(levels(&lab, 5).await, [5; 5], "{reason:?}");
        });
    }
    run(async {
        let mut lab = Lab::new(Setup::default(), &image("1.0.0")).unwrap();
        lab.broker.reset_connections(true);
        lab.power_on();
        assert_eq!(levels(&lab, 6).await, [5; 6], "a connection that breaks is no answer");
        lab.broker.reset_connections(false);
        lab.ready().await;
    });
    run(async {
        let mut lab = Lab::new(Setup::default(), &image("1.0.0")).unwrap();
        lab.power_on();
        for _ in 0..5 {
            lab.ready().await;
            lab.lan.set_reachable(false);
            tokio::time::sleep(MINUTE).await;
            lab.lan.set_reachable(true);
        }
        assert!(lab.broker.levels().iter().all(|level| *level == 5), "{:?}", lab.broker.levels());
    });
}

#[test]
fn a_broker_that_learns_version_5_is_asked_again_an_hour_later() {
    run(async {
        let lab = running(VersionRefusal::Code, EchoPolicy::Granted).await;
        lab.broker.speak_311_only(None);
        for _ in 0..4 {
            tokio::time::sleep(10 * MINUTE).await;
            lab.lan.reset_connections();
        }
        tokio::time::sleep(MINUTE).await;
        assert_eq!(lab.broker.levels(), [5, 4, 4, 4, 4, 4]);
        tokio::time::sleep(20 * MINUTE).await;
        lab.lan.reset_connections();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(lab.broker.levels(), [5, 4, 4, 4, 4, 4, 5]);
    });
}

#[test]
fn reports_that_a_broker_acknowledges_and_throws_away_activate_nothing() {
    run(async {
        let lab = running(VersionRefusal::Code, EchoPolicy::Granted).await;
        lab.broker.refuse_reports(true);
        lab.command();
        tokio::time::sleep(HOUR).await;
        assert_eq!(starts(&lab), 1, "it waits until it is heard");
        assert!(lab.lines().iter().any(|line| line.starts_with("Waiting for the broker")));
        lab.broker.refuse_reports(false);
        lab.wait_for(HOUR, |status| status.state == UpdateState::Confirmed).await.unwrap();
        assert!(lab.runs("1.1.0"));
    });
}

#[test]
fn a_trial_whose_reports_are_thrown_away_is_unreachable() {
    run(async {
        let lab = running(VersionRefusal::Silence, EchoPolicy::Granted).await;
        lab.command();
        lab.wait_for(HOUR, |status| status.state == UpdateState::Restarting).await.unwrap();
        lab.broker.refuse_reports(true);
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(starts(&lab), 3, "the old image has returned");
        lab.broker.refuse_reports(false);
        let status = lab.wait_for(HOUR, |status| status.state == UpdateState::Retrying).await.unwrap();
        assert_eq!(status.error.unwrap().code, Code::Unreachable);
    });
}

#[test]
fn where_nothing_comes_back_an_acknowledgement_counts() {
    run(async {
        let lab = running(VersionRefusal::Code, EchoPolicy::Denied).await;
        lab.broker.refuse_reports(true);
        lab.command();
        tokio::time::sleep(HOUR).await;
        assert_eq!(starts(&lab), 2, "the new image was tried, and stays");
    });
}

#[test]
fn own_reports_are_heard_only_as_long_as_something_depends_on_them() {
    run(async {
        let lab = running(VersionRefusal::Code, EchoPolicy::Granted).await;
        let status = format!("ESP32/ota/{DEVICE}/status");
        assert!(!lab.broker.subscribed(&status));
        lab.update(HOUR).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert!(!lab.broker.subscribed(&status));
    });
}

#[test]
fn a_retained_command_waits_for_an_absent_device_and_another_does_not() {
    for retained in [false, true] {
        run(async {
            let mut lab = running(VersionRefusal::Code, EchoPolicy::Granted).await;
            lab.power_off();
            tokio::time::sleep(MINUTE).await;
            lab.broker.publish(&format!("ESP32/ota/{DEVICE}/update"), "http://files/new.bin", retained);
            lab.power_on();
            tokio::time::sleep(HOUR).await;
            assert_eq!(lab.runs("1.1.0"), retained);
        });
    }
}

#[test]
fn a_command_that_is_far_too_long_is_refused_and_keeps_nobody_out() {
    run(async {
        let lab = running(VersionRefusal::Code, EchoPolicy::Granted).await;
        for len in [2_000, 100_000] {
            let command = format!("http://files/{}", "x".repeat(len));
            lab.broker.publish(ALL, command, true);
            lab.wait_for(MINUTE, |status| status.state == UpdateState::Refused).await.unwrap();
            tokio::time::sleep(MINUTE).await;
        }
        assert_eq!(lab.broker.levels(), [5, 4], "it stayed connected");
        lab.update(HOUR).await.unwrap();
        assert!(lab.reports().iter().any(|status| status.version == "1.1.0" && status.confirmed));
    });
}
