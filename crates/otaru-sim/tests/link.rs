//! A network that goes and comes: the device is back at once, whatever the broker's pauses are, and nothing but the radio is
//! ever restarted for it.
#![expect(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::time::Duration;

use otaru_device::Clock as _;
use otaru_sim::device::Event;
use otaru_sim::firmware::Behaviour;
use otaru_sim::lab::broker::ReasonCode;
use otaru_sim::lab::{DEVICE, Lab, Setup, firmware, run};

/// Longest time until a device is at its broker again, once the network can be joined.
const BACK: Duration = Duration::from_secs(5);

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

async fn connected() -> Lab {
    let mut lab = Lab::new(Setup::default(), &firmware("1.0.0", 1 << 16, Behaviour::Healthy)).unwrap();
    lab.power_on();
    lab.ready().await;
    lab
}

/// Brings the network back; how long it took until the device was at its broker.
async fn back(lab: &Lab) -> Duration {
    let since = lab.clock.now();
    lab.lan.set_reachable(true);
    tokio::time::timeout(Duration::from_secs(300), lab.ready()).await.expect("the device must come back");
    lab.clock.now() - since
}

fn boots(lab: &Lab) -> usize {
    lab.events().iter().filter(|event| matches!(event, Event::Booted { .. })).count()
}

#[test]
fn a_device_is_back_soon_however_long_its_network_was_away() {
    for away in [1, 2, 7, 22, 61, 200, 3600, 86_400] {
        run(async {
            let lab = connected().await;
            lab.lan.set_reachable(false);
            seconds(away).await;
            let took = back(&lab).await;
            assert!(took <= BACK, "away {away} s, back after {took:?}");
            assert_eq!(boots(&lab), 1);
        });
    }
}

#[test]
fn a_network_that_comes_back_ends_the_brokers_pause() {
    for away in [3, 22, 200] {
        run(async {
            let lab = connected().await;
            // A login that is refused is tried again after a minute.
            lab.broker.refuse(Some(ReasonCode::NotAuthorized));
            lab.lan.reset_connections();
            seconds(10).await;
            assert!(lab.broker.connected().is_empty());
            lab.broker.refuse(None);
            lab.lan.set_reachable(false);
            seconds(away).await;
            let took = back(&lab).await;
            assert!(took <= BACK, "away {away} s, back after {took:?}");
        });
    }
}

#[test]
fn a_connect_that_hangs_ends_with_its_network() {
    run(async {
        let lab = connected().await;
        lab.lan.set_silent(true);
        lab.lan.reset_connections();
        seconds(4).await;
        lab.lan.set_reachable(false);
        seconds(1).await;
        lab.lan.set_silent(false);
        let took = back(&lab).await;
        assert!(took <= BACK, "{took:?}");
    });
}

#[test]
fn a_network_that_flaps_is_followed() {
    run(async {
        let lab = connected().await;
        for up in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 1, 1] {
            lab.lan.set_reachable(false);
            seconds(3).await;
            let took = back(&lab).await;
            assert!(took <= BACK, "{took:?}");
            seconds(up).await;
        }
        // Too short to be seen down: nothing but the connections is lost.
        lab.lan.set_reachable(false);
        let took = back(&lab).await;
        assert!(took <= BACK, "{took:?}");
        assert_eq!(boots(&lab), 1);
    });
}

#[test]
fn a_radio_that_no_longer_joins_is_restarted_and_nothing_else() {
    run(async {
        let lab = connected().await;
        lab.lan.jam_radio();
        seconds(14 * 60).await;
        assert_eq!(lab.lan.radio_restarts(), 0);
        seconds(2 * 60).await;
        assert_eq!(lab.lan.radio_restarts(), 1);
        let took = back(&lab).await;
        assert!(took <= BACK, "{took:?}");
        lab.lan.set_reachable(false);
        seconds(3600).await;
        assert!((4..=5).contains(&lab.lan.radio_restarts()), "{}", lab.lan.radio_restarts());
        assert_eq!(boots(&lab), 1, "no outage restarts the chip");
    });
}

#[test]
fn settings_are_proved_by_a_report_that_the_broker_took() {
    run(async {
        let mut lab = Lab::new(Setup::default(), &firmware("1.0.0", 1 << 16, Behaviour::Healthy)).unwrap();
        lab.broker.refuse(Some(ReasonCode::BadUsernameOrPassword));
        lab.power_on();
        seconds(300).await;
        assert_eq!(lab.lan.reached_broker(), 0);
        // Connected, but its reports are not taken.
        lab.broker.refuse_reports(true);
        lab.broker.refuse(None);
        seconds(300).await;
        assert_eq!((lab.lan.reached_broker(), lab.broker.connected().len()), (0, 1));
        lab.broker.refuse_reports(false);
        lab.lan.reset_connections();
        seconds(300).await;
        assert_eq!(lab.lan.reached_broker(), 1);
        lab.lan.reset_connections();
        seconds(300).await;
        assert_eq!(lab.lan.reached_broker(), 1, "it is said once in a start");
    });
}

#[test]
fn no_outage_restarts_the_chip() {
    run(async {
        let lab = connected().await;
        // A day of each: no network, a network without an answer, a broker that closes.
        lab.lan.set_reachable(false);
        seconds(86_400).await;
        lab.lan.set_reachable(true);
        lab.lan.set_silent(true);
        seconds(86_400).await;
        lab.lan.set_silent(false);
        lab.broker.refuse(Some(ReasonCode::ServerUnavailable));
        lab.lan.reset_connections();
        seconds(86_400).await;
        assert_eq!(boots(&lab), 1);
        lab.broker.refuse(None);
        seconds(70).await;
        assert_eq!(lab.broker.connected(), [DEVICE]);
    });
}
