//! Devices in Home Assistant: what it is told, by its own schema, and what its button does.

use std::env;
use std::io::Write as _;
use std::process::{Command, Stdio};

use otaru_testing::{LIMIT, Program, eventually, have, program, skipped};
use serde_json::Value;

use crate::server::fleet::{Fleet, LONG};

/// Somebody at the broker in Home Assistant's place, with a token as Home Assistant has one.
struct House<'a> {
    fleet: &'a Fleet,
    token: String,
    heard: Program,
}

impl<'a> House<'a> {
    fn enter(fleet: &'a Fleet) -> Self {
        let made = fleet.asks(&["token", "create", "Home Assistant", "--role", "operator"]);
        let token = made[0]["text"].as_str().unwrap().to_owned();
        let mut listen = Self::client("mosquitto_sub", fleet, &token);
        listen.args(["-v", "-t", "homeassistant/#", "-t", "ESP32/ota/home-assistant/#"]);
        Self { fleet, heard: Program::start(listen), token }
    }

    fn client(name: &str, fleet: &Fleet, token: &str) -> Command {
        let mut command = program(name);
        command.args(["-V", "mqttv5", "-q", "1", "-h", "127.0.0.1", "-p", &fleet.mqtt.to_string()]);
        command.args(["-u", "homeassistant", "-P", token]);
        command
    }

    #[track_caller]
    fn says(&self, topic: &str, payload: &str) {
        let mut say = Self::client("mosquitto_pub", self.fleet, &self.token);
        assert!(say.args(["-t", topic, "-m", payload]).status().unwrap().success());
    }

    /// All that was heard on a topic, in its order.
    fn on(&self, topic: &str) -> Vec<String> {
        let start = format!("{topic} ");
        let lines = self.heard.lines();
        let texts = lines.iter().filter_map(|line| line.strip_prefix(&start));
        // So mosquitto_sub shows a message without a payload.
        texts.map(|text| if text == "(null)" { String::new() } else { text.to_owned() }).collect()
    }

    /// The states of a device, in their order.
    fn states(&self, device: &str) -> Vec<Value> {
        let texts = self.on(&format!("ESP32/ota/home-assistant/{device}/state"));
        texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
    }

    /// Waits for a state of a device.
    #[track_caller]
    fn sees(&self, device: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, LONG, || self.states(device).into_iter().rfind(|state| is(state)))
    }
}

/// Everything that was heard, by Home Assistant's own schema.
fn is_valid(house: &House<'_>) {
    let Some(python) = env::var_os("OTARU_HOME_ASSISTANT") else {
        return skipped(
            "no Home Assistant: cargo xtask test --install, or name a Python that has it in OTARU_HOME_ASSISTANT",
        );
    };
    let mut check = Command::new(python);
    check.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/server/home_assistant.py"));
    let mut check =
        check.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(house.heard.lines().join("\n").as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", house.heard.lines().join("\n"));
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(counts["config"].as_u64() >= Some(3) && counts["state"].as_u64() >= Some(6), "{counts}");
}

#[test]
fn devices_appear_and_are_updated_by_the_button() {
    if !have(&["mosquitto_sub", "mosquitto_pub"]) {
        return;
    }
    let fleet = Fleet::start(&["--dev", "--home-assistant"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware_of("1900K", "1.1.0", "healthy"));
    let _devices = fleet.devices_at("0.7", &old, 3, &[]);
    fleet.does(&["devices", "label", "sim-0002", "Porch"]);
    let house = House::enter(&fleet);

    // Nothing to install: what runs is the latest.
    let state = house.sees("sim-0001", "a first state", |_| true);
    assert_eq!((&state["installed_version"], &state["latest_version"]), (&"1.0.0".into(), &"1.0.0".into()));
    let topic = "homeassistant/update/otaru_sim-0002/config";
    let config =
        eventually("its name", LIMIT, || house.on(topic).into_iter().find(|text| text.contains("Porch")));
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["device"]["name"], "Porch");

    fleet.does(&["release", "upload", &new, "--notes", "Dims smoothly."]);
    let state = house.sees("sim-0001", "the release", |state| state["latest_version"] == "1.1.0");
    assert_eq!(state["release_summary"], "Dims smoothly.");
    assert_eq!(state["in_progress"], false);

    // The button, pressed twice, makes one rollout, for this device only.
    let button = config["command_topic"].as_str().unwrap();
    house.says(button, config["payload_install"].as_str().unwrap());
    house.says(button, config["payload_install"].as_str().unwrap());
    house.sees("sim-0002", "the end", |state| {
        state["installed_version"] == "1.1.0" && state["in_progress"] == false
    });
    let states = house.states("sim-0002");
    let percents: Vec<u64> = states.iter().filter_map(|state| state["update_percentage"].as_u64()).collect();
    let on_the_way = percents.iter().filter(|percent| (1..100).contains(*percent)).count();
    let moves = percents.len() >= 2 && on_the_way >= 1 && percents.is_sorted();
    assert!(moves, "progress moves: {percents:?} of {states:?}");
    assert!(states.iter().all(|state| state["in_progress"] == true || state["update_percentage"].is_null()));
    let rollouts = fleet.asks(&["rollout", "list"]);
    assert_eq!(rollouts.len(), 1, "{rollouts:?}");
    assert_eq!(
        (&rollouts[0]["created_by"], &rollouts[0]["name"]),
        (&"Home Assistant".into(), &"Porch to 1.1.0".into())
    );
    // A press that has nothing to do says so.
    house.says(button, "install");
    let why = "Not installed: no release is newer than 1.1.0, which runs.";
    house.sees("sim-0002", "the reason", |state| state["release_summary"] == why);
    assert_eq!(fleet.asks(&["rollout", "list"]).len(), 1);
    let others = house.sees("sim-0001", "its state", |_| true);
    assert_eq!(others["installed_version"], "1.0.0");

    // What makes no sense does nothing.
    for (topic, payload) in [
        (button, "uninstall"),
        ("ESP32/ota/home-assistant/nobody/install", "install"),
        ("ESP32/ota/home-assistant/a/b/install", "install"),
    ] {
        house.says(topic, payload);
    }

    // It is told everything again when it starts, and forgets a device that is retired.
    let before = house.on(topic).len();
    house.says("homeassistant/status", "online");
    eventually("everything again", LIMIT, || (house.on(topic).len() > before).then_some(()));
    fleet.does(&["devices", "retire", "sim-0003", "--yes"]);
    let retired = "homeassistant/update/otaru_sim-0003/config";
    eventually("the end of it", LIMIT, || {
        house.on(retired).last().is_some_and(String::is_empty).then_some(())
    });
    assert_eq!(fleet.asks(&["rollout", "list"]).len(), 1);
    is_valid(&house);
}

#[test]
fn what_fails_is_told_with_its_reason_and_not_offered_again() {
    if !have(&["mosquitto_sub", "mosquitto_pub"]) {
        return;
    }
    let fleet = Fleet::start(&["--dev", "--home-assistant"]);
    let _devices = fleet.devices(&fleet.firmware("1.0.0", "healthy"), 1, &[]);
    fleet.does(&["release", "upload", &fleet.firmware("1.1.0", "crash")]);
    fleet.does(&["release", "upload", &fleet.firmware("dev-build", "healthy")]);
    let house = House::enter(&fleet);
    house.sees("sim-0001", "the release", |state| state["latest_version"] == "1.1.0");
    let button = "ESP32/ota/home-assistant/sim-0001/install";
    house.says(button, "install");
    let state = house.sees("sim-0001", "the roll back", |state| {
        let told = state["release_summary"].as_str().unwrap_or_default();
        told.contains("1.1.0 was rolled back: ") && state["in_progress"] == false
    });
    assert_eq!((&state["installed_version"], &state["latest_version"]), (&"1.0.0".into(), &"1.0.0".into()));
    house.says(button, "install");
    house.sees("sim-0001", "the reason", |state| {
        let told = state["release_summary"].as_str().unwrap_or_default();
        told.starts_with("Not installed: 1.1.0 is not offered: this device rolled it back")
    });
    assert_eq!(fleet.asks(&["rollout", "list"]).len(), 1);
    // In the history both versions are told, and the attempt is one entry.
    let shown = fleet.asks(&["devices", "show", "sim-0001"]);
    let history = shown[0]["history"].as_array().unwrap();
    let attempts: Vec<&Value> = history.iter().filter(|entry| !entry["steps"].is_null()).collect();
    assert_eq!(attempts.len(), 1, "{history:#?}");
    assert_eq!(
        (&attempts[0]["detail"]["state"], &attempts[0]["detail"]["to"]),
        (&"rolled_back".into(), &"1.1.0".into())
    );
    let steps = attempts[0]["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|step| step["detail"]["state"] == "downloading" && step["detail"]["to"] == "1.1.0")
    );
}

#[test]
fn nothing_is_told_to_whom_nobody_asked_for() {
    if !have(&["mosquitto_sub"]) {
        return;
    }
    let fleet = Fleet::start(&["--dev"]);
    let _devices = fleet.devices(&fleet.firmware("1.0.0", "healthy"), 2, &[]);
    let mut listen = House::client("mosquitto_sub", &fleet, &fleet.token);
    listen.args(["-v", "-t", "homeassistant/#", "-t", "ESP32/ota/+/status"]);
    let heard = Program::start(listen);
    heard.says("ESP32/ota/sim-0002/status");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(!heard.lines().iter().any(|line| line.contains("homeassistant")));
}
