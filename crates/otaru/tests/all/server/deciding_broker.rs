//! Mosquitto that decides by itself who may do what, with the sample in `packaging/brokers`.

use otaru_testing::brokers::mosquitto_that_decides;
use otaru_testing::{Ended, Program, eventually, free_port, have, program, run};
use tempfile::TempDir;

use crate::common::otaru;
use crate::server::fleet::{Fleet, LONG, phase};

/// Files that people copy.
const SAMPLE: (&str, &str) = (
    include_str!("../../../../../packaging/brokers/mosquitto.conf"),
    include_str!("../../../../../packaging/brokers/mosquitto.acl"),
);

/// User names with their passwords.
const LOGINS: [(&str, &str); 3] = [("otaru", "of-the-server"), ("lamp", "of-lamp"), ("hall", "of-hall")];

/// A broker, and a server that is its client.
struct Setting {
    broker: Program,
    fleet: Fleet,
    _dir: TempDir,
}

impl Setting {
    /// Starts both; none when a program is missing.
    fn new() -> Option<Self> {
        if !have(&["mosquitto", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub"]) {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let broker = mosquitto_that_decides(dir.path(), port, SAMPLE, &LOGINS);
        let password = dir.path().join("server.txt").display().to_string();
        std::fs::write(&password, LOGINS[0].1).unwrap();
        let url = format!("mqtt://otaru@127.0.0.1:{port}");
        let fleet = Fleet::over(port, &["--mqtt", &url, "--mqtt-password-file", &password]);
        Some(Self { broker, fleet, _dir: dir })
    }

    /// Runs one of Mosquitto's clients with a login under a client id.
    fn client(&self, name: &str, (user, password): (&str, &str), id: &str, more: &[&str]) -> Ended {
        let mut command = program(name);
        command.args(["-V", "5", "-h", "127.0.0.1", "-p", &self.fleet.mqtt.to_string()]);
        command.args(["-u", user, "-P", password, "-i", id]).args(more);
        run(command)
    }

    /// Whether somebody may publish on a topic.
    fn may_publish(&self, login: (&str, &str), id: &str, topic: &str) -> bool {
        let ended = self.client("mosquitto_pub", login, id, &["-q", "1", "-t", topic, "-m", "online"]);
        ended.code == Some(0) && !ended.err.contains("uthoriz")
    }
}

#[test]
fn a_device_updates_over_the_sample_for_mosquitto() {
    let Some(setting) = Setting::new() else { return };
    let fleet = &setting.fleet;
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let broker = format!("mqtt://127.0.0.1:{}", fleet.mqtt);
    let (name, password) = LOGINS[1];
    let mut lamp = otaru(&["sim", "--speed", "20", "--broker", &broker, "--firmware", &old, "--name", name]);
    lamp.args(["--username", name, "--password", password]);
    let _lamp = Program::start(lamp);
    eventually("the lamp to be known", LONG, || (!fleet.asks(&["devices"]).is_empty()).then_some(()));
    fleet.does(&["release", "upload", &new, "--rollout"]);
    fleet.rollout(1, "the rollout to complete", |rollout| phase(rollout) == "completed");
    assert_eq!(fleet.asks(&["devices"])[0]["version"], "1.1.0");
    // The log warns twice of what is meant so, as the documentation says.
    let warnings = setting.broker.lines();
    let warnings = warnings.iter().filter(|line| line.contains("does not contain '%c' or '%u'"));
    assert_eq!(warnings.count(), 2);
}

#[test]
fn a_device_reaches_its_own_topics_only_over_the_sample_for_mosquitto() {
    let Some(setting) = Setting::new() else { return };
    let [server, lamp, hall] = LOGINS;
    for topic in ["lamp/status", "lamp/online", "lamp/heartbeat", "progress"] {
        assert!(setting.may_publish(lamp, "lamp", &format!("ESP32/ota/{topic}")), "{topic}");
    }
    for topic in ["hall/status", "hall/online", "hall/heartbeat", "lamp/update", "update", "lamp2/status"] {
        let topic = format!("ESP32/ota/{topic}");
        assert!(!setting.may_publish(lamp, "lamp", &topic), "{topic}");
        assert!(!setting.may_publish(lamp, "hall", &topic), "{topic} under another's client id");
        assert!(setting.may_publish(server, "person", &topic), "{topic} by the server");
    }
    assert!(!setting.may_publish(("lamp", hall.1), "lamp", "ESP32/ota/lamp/online"), "another's password");

    setting.client(
        "mosquitto_pub",
        server,
        "person",
        &["-r", "-q", "1", "-t", "ESP32/ota/hall/update", "-m", "x"],
    );
    let hears = |login, id| {
        let all = ["-t", "ESP32/ota/#", "-W", "2", "-F", "%t"];
        setting.client("mosquitto_sub", login, id, &all).out.contains("ESP32/ota/hall/update")
    };
    assert!(hears(hall, "hall"));
    assert!(!hears(lamp, "lamp"), "what is for another");
    let mut nobody = otaru(&["watch", "--broker", &format!("mqtt://127.0.0.1:{}", setting.fleet.mqtt)]);
    nobody.env("HOME", setting.fleet.dir.path());
    run(nobody).with_code(1).tells("wants a login");
}

#[test]
fn the_sample_for_mosquitto_speaks_tls_with_the_certificate_that_the_documentation_makes() {
    if !have(&["mosquitto", "mosquitto_passwd", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let documents = include_str!("../../../../../docs/brokers.md");
    let made = documents.lines().filter(|line| {
        line.starts_with("openssl re") || line.starts_with("openssl x5") || line.contains("> broker.ext")
    });
    let made: Vec<_> = made.map(|line| line.replace("broker.lan", "localhost")).collect();
    assert_eq!(made.len(), 4, "{made:?}");
    let mut shell = program("sh");
    shell.current_dir(dir.path()).args(["-ec", &made.join("\n")]);
    run(shell).with_code(0);

    let (clear, tls) = (free_port(), free_port());
    let mut settings = SAMPLE.0.to_owned();
    for (theirs, ours) in [
        ("#listener 8883", format!("listener {tls} 127.0.0.1")),
        ("#certfile /etc/mosquitto", format!("certfile {}", dir.path().display())),
        ("#keyfile /etc/mosquitto", format!("keyfile {}", dir.path().display())),
    ] {
        assert!(settings.contains(theirs), "{theirs}");
        settings = settings.replace(theirs, &ours);
    }
    let _broker = mosquitto_that_decides(dir.path(), clear, (&settings, SAMPLE.1), &LOGINS);
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("server.txt"), LOGINS[0].1).unwrap();
    let url = format!("mqtts://localhost:{tls}");
    let server = format!("mqtts://otaru@localhost:{tls}");
    let (ca, password) = (path("ca.pem"), path("server.txt"));
    let fleet = Fleet::over(tls, &["--mqtt", &server, "--mqtt-ca", &ca, "--mqtt-password-file", &password]);
    let firmware = fleet.firmware("1.0.0", "healthy");
    let (name, password) = LOGINS[1];
    let mut lamp = otaru(&["sim", "--broker", &url, "--ca", &ca, "--firmware", &firmware, "--name", name]);
    lamp.args(["--username", name, "--password", password]);
    let _lamp = Program::start(lamp);
    eventually("the lamp to be known", LONG, || (!fleet.asks(&["devices"]).is_empty()).then_some(()));
    let mut stranger = otaru(&["watch", "--broker", &url, "--username", name, "--password", password]);
    stranger.env("HOME", dir.path());
    run(stranger).with_code(1).tells("no TLS");
}

#[test]
fn whoever_makes_or_ends_a_login_is_told_that_the_broker_does_not_know_it() {
    let Some(setting) = Setting::new() else { return };
    let fleet = &setting.fleet;
    for (command, told) in [
        (&["devices", "add", "porch"][..], "make it there as well"),
        (&["devices", "password", "porch"], "make it there as well"),
        (&["devices", "retire", "porch", "--yes"], "until its login is ended there as well"),
        (&["devices", "unretire", "porch"], "if the device's login was ended there, make it there again"),
        (&["devices", "allow-claim", "porch"], "a fleet key is no login there"),
        (&["devices", "key", "create", "line 1"], "a fleet key is no login there"),
    ] {
        let ended = fleet.tries(command).with_code(0);
        assert!(ended.err.contains("this server's broker decides by itself"), "{command:?}: {}", ended.err);
        ended.tells(told);
    }
    let added = &fleet.asks(&["devices", "add", "hall"])[0];
    assert!(added["remarks"][0].as_str().unwrap().contains("make it there as well"), "{added}");
    assert!(
        fleet.asks(&["devices", "show", "hall"])[0]["device"].get("remarks").is_none(),
        "nothing was done"
    );

    // The server's own broker knows what is done here.
    let own = Fleet::start(&[]);
    let added = own.tries(&["devices", "add", "porch"]).with_code(0);
    assert!(!added.err.contains("broker"), "{}", added.err);
    assert!(own.asks(&["devices", "add", "hall"])[0].get("remarks").is_none());
}
