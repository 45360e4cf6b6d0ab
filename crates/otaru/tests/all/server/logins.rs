//! Devices with logins of their own, with fleet keys, and those that have no business here.

use otaru_testing::{Program, eventually, have, program, run};

use crate::common::otaru;
use crate::server::fleet::{Fleet, LONG};

/// The secret that a command shows once.
fn secret(line: &str, field: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[field].as_str().unwrap().to_owned()
}

#[test]
fn a_fleet_key_lets_unknown_devices_in_and_nothing_else_does() {
    let fleet = Fleet::start(&[]);
    let old = fleet.firmware("1.0.0", "healthy");
    let key =
        secret(&fleet.does(&["devices", "key", "create", "line 1", "--tag", "line=1", "--json"]), "text");
    let devices = fleet.devices(&old, 3, &["--username", "factory", "--password", &key]);
    let known = fleet.asks(&["devices", "--tags", "line=1"]);
    assert_eq!(known.len(), 3, "nobody watches with a fleet key, who would be a device: {known:?}");
    drop(devices);

    let broker = format!("mqtt://127.0.0.1:{}", fleet.mqtt);
    let sim = |more: &[&str]| {
        let mut command = otaru(&["sim", "--broker", &broker, "--firmware", &old, "--name-prefix", "other-"]);
        command.args(more);
        command
    };
    // With a watcher the refusal is told, by that.
    run(sim(&[])).with_code(1).tells("login");
    run(sim(&["--username", "x", "--password", "wrong"])).with_code(1).tells("login");
    let id = fleet.asks(&["devices", "key", "list"])[0]["id"].as_str().unwrap().to_owned();
    fleet.does(&["devices", "key", "revoke", &id]);
    // Without one by the devices themselves.
    let refused = Program::start(sim(&["--username", "x", "--password", &key]));
    refused.says("refused the user name or password");
    refused.says("With a fleet key nobody hears here what is reported");
    assert_eq!(fleet.asks(&["devices"]).len(), 3, "nobody else was registered");
    // A login of its own is the device's alone: nobody watches with it either.
    let own = secret(&fleet.does(&["devices", "add", "lamp-1", "--json"]), "password");
    let mut lamp = otaru(&["sim", "--broker", &broker, "--firmware", &old, "--name", "lamp-1"]);
    lamp.args(["--username", "lamp-1", "--password", &own]);
    let _lamp = Program::start(lamp);
    eventually("the lamp to be there", LONG, || {
        let there = fleet
            .asks(&["devices"])
            .iter()
            .any(|device| device["id"] == "lamp-1" && device["reachable"] == true);
        there.then_some(())
    });
    let logs = fleet.logs();
    assert!(logs.contains("started"), "{logs}");
    assert!(!logs.contains(&key) && !logs.contains(&fleet.token), "no secret is logged");
}

#[test]
fn a_device_speaks_and_hears_for_itself_only() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let fleet = Fleet::start(&[]);
    let lamp = secret(&fleet.does(&["devices", "add", "lamp", "--json"]), "password");
    let hall = secret(&fleet.does(&["devices", "add", "hall", "--json"]), "password");
    let port = fleet.mqtt.to_string();
    let client = |name: &str, user: &str, password: &str, id: &str, more: &[&str]| {
        let mut command = program(name);
        command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-u", user, "-P", password, "-i", id]);
        command.args(more);
        command
    };
    let publish = |user: &str, password: &str, id: &str, topic: &str| {
        let ended =
            run(client("mosquitto_pub", user, password, id, &["-q", "1", "-t", topic, "-m", "online"]));
        ended.code == Some(0) && !ended.err.contains("uthoriz")
    };
    assert!(publish("lamp", &lamp, "lamp", "ESP32/ota/lamp/online"));
    assert!(!publish("lamp", &lamp, "lamp", "ESP32/ota/hall/online"), "not for another");
    assert!(!publish("lamp", &lamp, "lamp", "ESP32/ota/update"), "not to all");
    assert!(!publish("lamp", &lamp, "hall", "ESP32/ota/hall/online"), "not under another's client id");
    assert!(!publish("hall", &lamp, "hall", "ESP32/ota/hall/online"), "not with another's password");
    // The log says of whom: names are no secret, and passwords are nowhere in it.
    let refused = fleet.says("MQTT connections were refused");
    assert!(refused.contains("client=\"hall\"") && !refused.contains(&lamp), "{refused}");
    assert!(publish("hall", &hall, "hall", "ESP32/ota/hall/online"));
    // A client id belongs to whoever logged in: a person's tool that is called as a device is no device, and puts none out.
    assert!(publish("token", &fleet.token, "lamp", "ESP32/ota/lamp/update"));
    assert!(publish("token", &fleet.token, "person", "ESP32/ota/lamp/update"));
    assert!(publish("lamp", &lamp, "lamp", "ESP32/ota/lamp/online"));

    let listener = Program::start(client(
        "mosquitto_sub",
        "lamp",
        &lamp,
        "lamp",
        &["-d", "-q", "1", "-t", "ESP32/ota/+/update"],
    ));
    let answer = listener.says("ubscri");
    let line = if answer.contains("135") { answer } else { listener.says("135") };
    assert!(line.contains("135"), "not authorized (MQTT 5, section 3.9.3): {line}");
}

#[test]
fn two_boards_of_one_name_are_told() {
    let fleet = Fleet::start(&["--dev"]);
    let firmware = fleet.firmware("1.0.0", "healthy");
    let _one = fleet.devices(&firmware, 1, &["--no-watch"]);
    // The same name again; ours wait a minute before they come back, and these live twenty times as fast.
    let _other = fleet.devices(&firmware, 1, &["--no-watch"]);
    let told = eventually("the server to notice", LONG, || {
        let shown = fleet.does(&["devices", "show", "sim-0001"]);
        shown.lines().find(|line| line.contains("taken over")).map(str::to_owned)
    });
    assert!(told.contains("by 127.0.0.1") && told.contains("give each board its own name"), "{told}");
    let lines = || fleet.logs().matches("a client id is taken over again and again").count();
    // What a server writes to its log comes through a pipe, later than its answer at times.
    eventually("the log to have it", LONG, || (lines() > 0).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(lines(), 1, "once");
}

#[test]
fn healthy_asks_the_server_that_is_named_or_else_that_of_the_login() {
    let fleet = Fleet::start(&[]);
    let here = format!("http://127.0.0.1:{}", fleet.http);
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token").display().to_string();
    std::fs::write(&token, &fleet.token).unwrap();
    let user = |args: &[&str]| {
        let mut command = otaru(args);
        command.env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        command.env_remove("OTARU_SERVER").env_remove("OTARU_TOKEN");
        command
    };
    run(user(&["login", &here, "--token-file", &token])).with_code(0);
    for alive in [&[][..], &["--alive"]] {
        let ended = run(user(&[&["healthy"][..], alive].concat())).with_code(0);
        assert!(ended.out.starts_with(&here), "{}", ended.out);
    }
    let nobody = format!("http://127.0.0.1:{}", otaru_testing::free_port());
    let mut named = user(&["healthy"]);
    named.env("OTARU_SERVER", &nobody);
    run(named).with_code(1).tells(&format!("{nobody} does not answer"));
    let mut typed = user(&["healthy", &here]);
    typed.env("OTARU_SERVER", &nobody);
    run(typed).with_code(0);
    // A login that is damaged may have been another server's: nobody is asked in its place, unless by name.
    let file = home.path().join(".config/otaru/login.json");
    std::fs::write(file, "{").unwrap();
    run(user(&["healthy"])).with_code(1).tells("is damaged");
    run(user(&["healthy", &here])).with_code(0);
}
