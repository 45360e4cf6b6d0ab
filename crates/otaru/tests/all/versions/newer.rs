//! A server one version ahead: every object has a field that nobody here knows, and there are states, phases, standings, roles, kinds and
//! a problem that are new. What is not known is shown by its name, and `--json` has all of it.

use otaru_testing::Running;
use serde_json::{Value, json};

use super::{Version, has, plain};

fn newer() -> Version {
    Version::start(include_str!("newer.json"))
}

#[test]
fn devices_in_a_state_that_is_new() {
    let server = newer();
    has(
        &server.tells(&["devices"]),
        &[
            "● Kitchen lamp (sim-0001) esp32c3 lamp 1.2.0 3c9be917 confirmed ",
            "● sim-0002 esp32c3 lamp 1.0.0 d6e7b8f8 hibernating: cosmic_ray ",
            "2 devices, 2 reachable",
        ],
    );
    let devices = server.items("GET /devices");
    assert_eq!(devices[1]["moon"]["phase"], "full");
    server.prints(&["devices"], devices);

    let show = server.tells(&["devices", "show", "sim-0001"]);
    has(
        &show,
        &[
            "state hibernating: cosmic_ray",
            "why a bit flipped",
            "trouble two boards have this name",
            "rollout 2 \"lamp 1.2.0\": quarantined",
        ],
    );
    for told in ["hibernating 1.2.0 cosmic_ray: a bit flipped", "moon rise", "claimed with fleet key line 1"]
    {
        assert!(show.contains(told), "{told}: {show}");
    }
    let all = json!({
        "device": server.answer("GET /devices/sim-0001"),
        "history": server.items("GET /devices/sim-0001/history"),
    });
    server.prints(&["devices", "show", "sim-0001"], [&all]);
}

#[test]
fn devices_are_changed() {
    let server = newer();
    for (args, told, request) in [
        (&["tag", "sim-0001", "--set", "x=y"][..], "Tagged 2 devices.", "POST /devices/tags"),
        (&["label", "sim-0001", "x"], "sim-0001 is called \"Kitchen lamp\".", "PATCH /devices/sim-0001"),
        (&["retire", "sim-0001", "--yes"], "sim-0001 is retired;", "POST /devices/sim-0001/retire"),
        (&["unretire", "sim-0001"], "sim-0001 is taken back.", "POST /devices/sim-0001/unretire"),
        (&["allow-claim", "sim-0001"], "sim-0001 may be claimed", "POST /devices/sim-0001/allow-claim"),
        (&["add", "porch"], "password cafe", "POST /devices"),
        (&["password", "sim-0001"], "password f00d", "POST /devices/sim-0001/password"),
        (&["key", "create", "line 1"], "fleet_81df9a29_0000", "POST /fleet-keys"),
    ] {
        let args = [&["devices"][..], args].concat();
        has(&server.tells(&args), &[told]);
        server.prints(&args, [server.answer(request)]);
    }
    assert_eq!(server.tells(&["devices", "key", "list"]), "81df9a29 line 1 0 devices");
    server.prints(&["devices", "key", "list"], server.items("GET /fleet-keys"));
}

#[test]
fn a_role_that_is_new() {
    let server = newer();
    has(&server.tells(&["token", "list"]), &["009dcecc build auditor e", "bd863009 first admin good "]);
    server.prints(&["token", "list"], server.items("GET /tokens"));
    has(&server.tells(&["token", "create", "x"]), &["otaru_d71bfe74_0000"]);
    server.prints(&["token", "create", "x"], [server.answer("POST /tokens")]);
    assert_eq!(server.tells(&["token", "revoke", "build"]), "The token 009dcecc is revoked.");
}

#[test]
fn releases_with_work_of_a_kind_that_is_new() {
    let server = newer();
    has(&server.tells(&["release", "list"]), &["2 lamp 1.1.0 esp32c3 7194fdc7 100.0 KiB 0 "]);
    server.prints(&["release", "list"], server.items("GET /releases"));
    let lines = ["release lamp 1.1.0, id 2", "revisions v0.0 to v0.99", "flash 4.00 MiB", "file bad.bin"];
    has(&server.tells(&["release", "show", "2"]), &lines);
    server.prints(&["release", "show", "2"], [server.answer("GET /releases/2")]);
    has(&server.tells(&["release", "yank", "2"]), &["lamp 1.1.0 is offered to nobody"]);
    server.prints(&["release", "yank", "2"], [server.answer("POST /releases/2/yank")]);
    server.prints(&["release", "unyank", "1"], [server.answer("POST /releases/1/unyank")]);
    server.prints(&["release", "notes", "2", "x"], [server.answer("PATCH /releases/2")]);

    // Nobody waits for work of which it is not known whether it ends.
    let file = tempfile::NamedTempFile::new().unwrap();
    let upload = ["release", "upload", file.path().to_str().unwrap()];
    has(&server.tells(&upload), &["release lamp 1.1.0, id 2"]);
    let mut shown = server.answer("POST /releases").clone();
    shown["remarks"] = Value::Null;
    server.prints(&upload, [&shown]);
}

#[test]
fn rollouts_in_a_phase_that_is_new() {
    let server = newer();
    has(
        &server.tells(&["rollout", "list"]),
        &[
            "3 draft simmering no devices yet ",
            "2 lamp 1.2.0 running 1 of 4 done ",
            "1 lamp 1.1.0 stopped 0 of 4 done, 1 failed, 2 quarantined ",
        ],
    );
    server.prints(&["rollout", "list"], server.items("GET /rollouts"));
    has(
        &server.tells(&["rollout", "show", "1"]),
        &[
            "rollout 1 \"lamp 1.1.0\" stopped 0 of 4 done, 1 failed, 2 quarantined",
            "wave 1 ━━━━━─────────── 0 of 3 done, 1 failed, 2 quarantined",
            "stopped by itself: 1 failure among 1 result; `otaru rollout resume 1` goes on",
            "sim-0001 rolled back panic:",
        ],
    );
    server.prints(&["rollout", "show", "1"], [server.answer("GET /rollouts/1")]);
    has(&server.tells(&["rollout", "show", "2"]), &["held: full_moon"]);
    let held = server.tries(&["rollout", "watch", "2", "--fail-on-hold"]).with_code(1);
    held.tells("it waits for a person: held: full_moon");
    let pause = ["rollout", "pause", "2"];
    assert_eq!(server.tells(&pause), "rollout 2 \"lamp 1.2.0\" hypnotised 1 of 4 done");
    server.prints(&pause, [server.answer("POST /rollouts/2/pause")]);
    let watch = server.tries(&["rollout", "watch", "1"]).with_code(1);
    has(&plain(&watch.out), &["rollout 1 \"lamp 1.1.0\" stopped 0 of 4 done, 1 failed, 2 quarantined"]);
}

#[test]
fn rollouts_are_made() {
    let server = newer();
    let dry = ["rollout", "create", "lamp@1.2.0", "--dry-run"];
    has(
        &server.tells(&dry),
        &[
            "lamp 1.2.0 (3c9be917, good.bin)",
            "4 devices: 1 running it already",
            "2 devices will refuse it (too_romantic): it glows: sim-0003, …",
        ],
    );
    server.prints(&dry, [server.answer("POST /rollouts/preview")]);
    let create = ["rollout", "create", "lamp@1.2.0", "--watch", "--fail-on-hold"];
    server.tries(&create).with_code(1).tells("held: full_moon");
    server.prints(&["rollout", "create", "lamp@1.2.0"], [server.answer("POST /rollouts")]);
}

#[test]
fn a_problem_of_a_kind_that_is_new() {
    let server = newer();
    for more in [&[][..], &["--json"]] {
        let show = server.tries(&[&["rollout", "show", "99"][..], more].concat()).with_code(1);
        assert_eq!(
            (show.out.as_str(), show.err.as_str()),
            ("", "error: there is no rollout 99 at full moon\n")
        );
    }
}

#[test]
fn events_of_a_kind_that_is_new() {
    let server = newer();
    let watch = Running::start(server.command(&["watch"]));
    // The first that there are words for.
    assert_eq!(watch.line(""), "sim-0001: hibernating on 1.0.0");
    assert_eq!(watch.line(""), "rollout 2: simmering");
    let watch = Running::start(server.command(&["watch", "--json"]));
    for event in server.answer("GET /events").as_array().unwrap() {
        let mut told: Value = serde_json::from_str(&watch.line("")).unwrap();
        assert!(told.as_object_mut().unwrap().remove("time").is_some());
        assert_eq!(&told, event);
    }
}

#[test]
fn a_role_that_is_new_logs_in() {
    let server = newer();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "otaru_1").unwrap();
    let mut command = server.command(&["login", &server.server.url, "--token-file", token.to_str().unwrap()]);
    command.env("XDG_CONFIG_HOME", dir.path());
    let told = otaru_testing::run(command).with_code(0).out;
    assert!(told.contains(": \"first\", auditor. Kept in "), "{told}");
}
