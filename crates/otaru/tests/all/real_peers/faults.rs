//! Brokers that die, fall silent, refuse, repeat themselves or are flooded: the device is updated all the same.

use std::io::Write as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use otaru_format::status::UpdateState;
use otaru_testing::{LIMIT, Program, eventually};

use crate::real_peers::broker::{Broker, Kind};
use crate::real_peers::device::{Bench, DEVICE};

/// Firmware that is offered.
#[derive(Clone, Copy)]
enum Firmware {
    /// A bare image.
    Bare,
    /// A signed release, to a device that takes nothing else.
    Signed,
}

impl Firmware {
    /// A bench with firmware of this size and kind.
    fn bench(self, size: usize, speed: f64) -> Bench {
        let mut bench = Bench::new(size, speed);
        if matches!(self, Self::Signed) {
            bench.sign();
        }
        bench
    }

    /// The file that is offered.
    const fn file(self) -> &'static str {
        match self {
            Self::Bare => "new.bin",
            Self::Signed => "new.otaru",
        }
    }
}

/// Runs a fault, unless a program for it is missing.
fn against(kind: Kind, firmware: Firmware, fault: fn(Broker, Firmware)) {
    if let Some(broker) = Broker::start(kind) {
        fault(broker, firmware);
    }
}

/// Runs each against Mosquitto and against the embedded broker, with a bare image and with a signed release.
macro_rules! against_both {
    ($($fault:ident),* $(,)?) => { $(
        mod $fault {
            use super::{Firmware, Kind, against};

            #[test]
            fn mosquitto() {
                against(Kind::Mosquitto, Firmware::Bare, super::$fault);
            }

            #[test]
            fn mosquitto_signed() {
                against(Kind::Mosquitto, Firmware::Signed, super::$fault);
            }

            #[test]
            fn embedded() {
                against(Kind::Embedded, Firmware::Bare, super::$fault);
            }

            #[test]
            fn embedded_signed() {
                against(Kind::Embedded, Firmware::Signed, super::$fault);
            }
        }
    )* };
}

against_both!(
    killed_during_a_download,
    half_open_during_a_download,
    taken_over_by_the_same_name,
    login_refused_for_a_while,
    old_command_retained,
    thousand_commands_at_once,
);

/// A download that takes seconds.
const LARGE: usize = 1900 << 10;
/// A download that does not matter.
const SMALL: usize = 128 << 10;

fn killed_during_a_download(mut broker: Broker, firmware: Firmware) {
    let bench = firmware.bench(LARGE, 4.0);
    let (web, device) = (bench.python(), bench.device(&broker));
    broker.offer(&web.url(firmware.file()));
    device.says(r#""state":"downloading""#);
    broker.kill();
    device.says("broker: connection lost");
    broker.begin();
    bench.ends_on_the_new_image(&broker);
    let lines = device.lines();
    let first = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(first("broker: connection lost") < first(r#""slot":"ota_1""#), "the download was over already");
}

fn half_open_during_a_download(broker: Broker, firmware: Firmware) {
    let speed = 4.0;
    let bench = firmware.bench(LARGE, speed);
    let (web, device) = (bench.python(), bench.device(&broker));
    broker.offer(&web.url(firmware.file()));
    device.says(r#""state":"downloading""#);
    broker.process().freeze();
    sleep(Duration::from_secs_f64(15.0 / speed));
    device.says("broker: no answer in time");
    broker.process().thaw();
    bench.ends_on_the_new_image(&broker);
}

fn taken_over_by_the_same_name(broker: Broker, firmware: Firmware) {
    let bench = firmware.bench(SMALL, 20.0);
    let (web, device) = (bench.python(), bench.device(&broker));
    let stranger = broker.client("mosquitto_sub", &["-i", DEVICE, "-V", "mqttv5", "-t", "elsewhere"]);
    let stranger = Program::start(stranger);
    // MQTT 5 has a word for it, which the embedded broker says; Mosquitto 2.0 just closes the socket.
    let ousted = |line: &String| {
        line.contains("broker: another client uses this device's name")
            || line.contains("broker: connection lost")
    };
    eventually("the device to be ousted", LIMIT, || device.lines().iter().any(ousted).then_some(()));
    drop(stranger);
    is_online_again(&broker, &device);
    broker.offer(&web.url(firmware.file()));
    bench.ends_on_the_new_image(&broker);
}

fn login_refused_for_a_while(mut broker: Broker, firmware: Firmware) {
    broker.begin_with_password("right");
    let bench = firmware.bench(SMALL, 20.0);
    let (web, device) = (bench.python(), bench.device(&broker));
    broker.begin_with_password("changed");
    // Mosquitto's reason is "not authorised", the embedded broker's is the login itself.
    let refused = |line: &&String| {
        line.contains("refused the user name or password; next attempt in")
            || line.contains(
                "the broker says: not authorised (user name, password or access rules); next attempt in",
            )
    };
    eventually("two refused attempts", LIMIT, || {
        (device.lines().iter().filter(refused).count() >= 2).then_some(())
    });
    assert_eq!(boots(&device), 1, "{:?}", device.lines());
    broker.begin_with_password("right");
    is_online_again(&broker, &device);
    broker.offer(&web.url(firmware.file()));
    bench.ends_on_the_new_image(&broker);
    assert!(!device.lines().iter().any(|line| line.contains("right")), "a password in the log");
}

fn old_command_retained(broker: Broker, firmware: Firmware) {
    let bench = firmware.bench(SMALL, 20.0);
    let (web, device) = (bench.python(), bench.device(&broker));
    broker.publish("ESP32/ota/sim-0001/update", &["-q", "1", "-r", "-m", &web.url(firmware.file())]);
    broker.report(DEVICE, |status| bench.is_done(status) && status.state == UpdateState::Current);
    device.interrupt();
    bench.flash_has_the_new_image(DEVICE);
    let before = bench.foreign_flash(DEVICE);
    let device = bench.devices(&broker, 1);
    device.says(r#""state":"current""#);
    broker.report(DEVICE, |status| bench.is_done(status) && status.state == UpdateState::Current);
    device.interrupt();
    assert!(bench.foreign_flash(DEVICE) == before, "flash was written for nothing");
}

fn thousand_commands_at_once(broker: Broker, firmware: Firmware) {
    let bench = firmware.bench(SMALL, 20.0);
    let (web, _device) = (bench.python(), bench.device(&broker));
    let mut commands = String::new();
    for number in 0..1000 {
        commands += &match number % 5 {
            0 => format!("http://127.0.0.1:1/{number}.bin\n"),
            1 => format!("ftp://127.0.0.1/{number}.bin\n"),
            2 => format!("{{\"url\":\"http://127.0.0.1:1/{number}.bin\",\"deployment\":\"{number}\"}}\n"),
            3 => format!("{{\"url\":{number}\n"),
            _ => format!("{}\n", web.url(&format!("nothing-{number}.bin"))),
        };
    }
    commands += &web.url(firmware.file());
    commands.push('\n');
    publish_lines(&broker, "ESP32/ota/update", &commands);
    bench.ends_on_the_new_image(&broker);
    broker.offer("ftp://127.0.0.1/refused.bin");
    broker.report(DEVICE, |status| status.state == UpdateState::Refused && bench.is_done(status));
}

/// Returns the number of times that the device started.
fn boots(device: &Program) -> usize {
    device.lines().iter().filter(|line| line.contains(r#""event":"boot""#)).count()
}

/// Waits for the device's second connection and for the broker's word that it is there.
#[track_caller]
fn is_online_again(broker: &Broker, device: &Program) {
    let connected = |line: &&String| line.contains("broker: connected as sim-0001");
    eventually("the device to come back", LIMIT, || {
        (device.lines().iter().filter(connected).count() >= 2).then_some(())
    });
    eventually("the device to be online", LIMIT, || {
        (broker.retained("ESP32/ota/sim-0001/online")? == "online").then_some(())
    });
}

/// Publishes each line as fast as `mosquitto_pub` can.
#[track_caller]
fn publish_lines(broker: &Broker, topic: &str, lines: &str) {
    let mut command = broker.client("mosquitto_pub", &["-q", "1", "-t", topic, "-l"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let ended = eventually("mosquitto_pub to end", Duration::from_secs(30), || child.try_wait().unwrap());
    assert!(ended.success());
}
