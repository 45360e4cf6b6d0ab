//! A server one version back: it has no titles, no short digests, no file names, and tells nothing of who takes a connection from whom,
//! how many devices fit, how many a fleet key may bring, or who would refuse a release.

use std::io::Write as _;

use otaru_testing::Running;
use serde_json::{Value, json};

use super::{Version, has};

fn older() -> Version {
    Version::start(include_str!("older.json"))
}

#[test]
fn devices_are_listed_and_shown() {
    let server = older();
    let list = server.tells(&["devices"]);
    has(
        &list,
        &[
            "● Kitchen lamp (sim-0001) esp32c3 lamp 1.2.0 confirmed ",
            "● sim-0002 esp32c3 lamp 1.0.0 idle ",
            "2 devices, 2 reachable",
        ],
    );
    server.prints(&["devices"], server.items("GET /devices"));

    let show = server.tells(&["devices", "show", "sim-0001"]);
    has(
        &show,
        &[
            "device sim-0001",
            "label Kitchen lamp",
            "runs lamp 1.2.0",
            "state confirmed",
            "why panicked at src/main.rs:42:5",
            "reachable yes",
            "rollout 1 \"lamp 1.1.0\": rolled_back",
        ],
    );
    assert!(show.contains("checking 1.2.0 (runs 1.0.0)"), "{show}");
    assert!(show.contains("rolled back 1.1.0 (runs 1.0.0) panic: panicked at src/main.rs:42:5:"), "{show}");
    assert!(show.contains("claimed with fleet key line 1 from 192.0.2.7"), "{show}");
    assert!(!show.contains("trouble"), "{show}");
    let all = json!({
        "device": server.answer("GET /devices/sim-0001"),
        "history": server.items("GET /devices/sim-0001/history"),
    });
    server.prints(&["devices", "show", "sim-0001"], [&all]);
}

#[test]
fn devices_are_changed() {
    let server = older();
    let tag = ["devices", "tag", "--filter-tags", "canary", "--set", "site=berlin", "--remove", "x"];
    assert_eq!(server.tells(&tag), "Changed the tags of 2 devices.");
    // A name that it does not know would be refused.
    let sent =
        json!({"devices": [], "which": {"tags": "canary"}, "set": {"site": "berlin"}, "remove": ["x"]});
    assert_eq!(server.asked("POST /devices/tags"), sent);
    server.prints(&tag, [server.answer("POST /devices/tags")]);

    let label = ["devices", "label", "sim-0001", "Kitchen lamp"];
    assert_eq!(server.tells(&label), "sim-0001 is called \"Kitchen lamp\".");
    assert_eq!(server.asked("PATCH /devices/sim-0001"), json!({"label": "Kitchen lamp"}));
    server.prints(&label, [server.answer("PATCH /devices/sim-0001")]);

    has(&server.tells(&["devices", "retire", "sim-0001", "--yes"]), &["sim-0001 is retired;"]);
    assert_eq!(
        server.tells(&["devices", "unretire", "sim-0001"]),
        "sim-0001 is taken back. A device that was refused tries again within a minute."
    );
    has(&server.tells(&["devices", "allow-claim", "sim-0001"]), &["sim-0001 may be claimed"]);
    for (word, args) in [
        ("retire", &["devices", "retire", "sim-0001", "--yes"][..]),
        ("unretire", &["devices", "unretire", "sim-0001"]),
        ("allow-claim", &["devices", "allow-claim", "sim-0001"]),
    ] {
        let request = format!("POST /devices/sim-0001/{word}");
        assert_eq!(server.asked(&request), json!({}));
        server.prints(args, [server.answer(&request)]);
    }
}

#[test]
fn logins_and_keys_are_made() {
    let server = older();
    has(
        &server.tells(&["devices", "add", "porch", "--tag", "site=x"]),
        &["user name porch", "password cafe"],
    );
    assert_eq!(server.asked("POST /devices"), json!({"id": "porch", "tags": {"site": "x"}}));
    server.prints(&["devices", "add", "porch"], [server.answer("POST /devices")]);
    has(&server.tells(&["devices", "password", "sim-0001"]), &["user name sim-0001", "password f00d"]);
    server.prints(&["devices", "password", "sim-0001"], [server.answer("POST /devices/sim-0001/password")]);

    // It does not count devices by key.
    assert_eq!(server.tells(&["devices", "key", "list"]), "81df9a29 line 1 0 devices");
    server.prints(&["devices", "key", "list"], server.items("GET /fleet-keys"));
    let create = ["devices", "key", "create", "line 1", "--tag", "site=berlin"];
    has(&server.tells(&create), &["fleet_81df9a29_0000"]);
    assert_eq!(server.asked("POST /fleet-keys"), json!({"name": "line 1", "tags": {"site": "berlin"}}));
    server.prints(&create, [server.answer("POST /fleet-keys")]);
    let revoke = ["devices", "key", "revoke", "line 1"];
    assert_eq!(server.tells(&revoke), "The fleet key 81df9a29 is revoked.");
    server.prints(&revoke, [&json!({"revoked": "81df9a29"})]);
}

#[test]
fn tokens_are_listed_made_and_ended() {
    let server = older();
    has(
        &server.tells(&["token", "list"]),
        &["009dcecc build operator e", "d71bfe74 wall viewer revoked ", "bd863009 first admin good "],
    );
    server.prints(&["token", "list"], server.items("GET /tokens"));
    let create = ["token", "create", "wall", "--role", "viewer"];
    has(&server.tells(&create), &["The token, shown this once:", "otaru_d71bfe74_0000"]);
    assert_eq!(server.asked("POST /tokens"), json!({"name": "wall", "role": "viewer", "expires_at": null}));
    server.prints(&create, [server.answer("POST /tokens")]);
    assert_eq!(server.tells(&["token", "revoke", "build"]), "The token 009dcecc is revoked.");
    server.tries(&["token", "revoke", "wall"]).with_code(1).tells("the token wall is revoked already");
}

#[test]
fn releases_are_listed_and_shown() {
    let server = older();
    has(
        &server.tells(&["release", "list"]),
        &["3 lamp 1.2.0 esp32c3 100.0 KiB 1 ", "1 lamp 1.0.0 esp32c3 100.0 KiB 3 "],
    );
    server.prints(&["release", "list"], server.items("GET /releases"));
    // It has no titles: product and version are what there is.
    let show = server.tells(&["release", "show", "2"]);
    has(
        &show,
        &[
            "release lamp 1.1.0, id 2",
            "chip esp32c3",
            "image 7194fdc7fe47cc34",
            "size 100.0 KiB image, 56.8 KiB compressed",
            "signed by 2abd1f86cae97748",
            "patch 926 B from 1.0.0",
            "notes Broken",
            "runs on 0 devices",
        ],
    );
    for absent in ["revisions", "flash", "file", "state"] {
        assert!(!show.lines().any(|line| line.starts_with(absent)), "{show}");
    }
    server.prints(&["release", "show", "2"], [server.answer("GET /releases/2")]);
    server.prints(&["release", "show", "lamp@1.2.0"], [server.answer("GET /releases/3")]);
    has(&server.tells(&["release", "show", "1"]), &["state yanked "]);
}

#[test]
fn releases_are_changed() {
    let server = older();
    has(&server.tells(&["release", "yank", "2"]), &["lamp 1.1.0 is offered to nobody any more;"]);
    server.prints(&["release", "yank", "2"], [server.answer("POST /releases/2/yank")]);
    for unyank in [&["release", "unyank", "1"][..], &["release", "yank", "1", "--undo"]] {
        assert_eq!(server.tells(unyank), "lamp 1.0.0 is offered again.");
        server.prints(unyank, [server.answer("POST /releases/1/unyank")]);
    }
    let notes = ["release", "notes", "2", "Broken"];
    assert_eq!(server.tells(&notes), "lamp 1.1.0: noted.");
    assert_eq!(server.asked("PATCH /releases/2"), json!({"notes": "Broken"}));
    server.prints(&notes, [server.answer("PATCH /releases/2")]);
}

#[test]
fn files_are_uploaded() {
    let server = older();
    let mut file = tempfile::Builder::new().suffix(".bin").tempfile().unwrap();
    file.write_all(b"bytes").unwrap();
    let path = file.path().to_str().unwrap();
    let told =
        server.tries(&["release", "upload", path]).with_code(0).tells("the version in the image is 1.1.0");
    has(&super::plain(&told.out), &["release lamp 1.1.0, id 2", "size 100.0 KiB image"]);
    let sent = server.server.asked();
    assert!(sent.iter().any(|(request, body)| request.starts_with("POST /releases?") && body == "bytes"));
    // Remarks are told beside it.
    let mut shown = server.answer("POST /releases").clone();
    shown["remarks"] = Value::Null;
    server.prints(&["release", "upload", path], [&shown]);
}

#[test]
fn rollouts_are_listed_shown_and_watched() {
    let server = older();
    has(
        &server.tells(&["rollout", "list"]),
        &[
            "3 draft draft no devices yet ",
            "2 lamp 1.2.0 running 1 of 4 done ",
            "1 lamp 1.1.0 stopped 0 of 2 done, 1 failed ",
        ],
    );
    server.prints(&["rollout", "list"], server.items("GET /rollouts"));
    // It is not asked for outcomes that it may not know.
    let show = server.tells(&["rollout", "show", "1"]);
    has(
        &show,
        &[
            "rollout 1 \"lamp 1.1.0\" stopped 0 of 2 done, 1 failed",
            "brings lamp 1.1.0",
            "wave 1 ━━━━━━━━━━━━━━━━ 0 of 1 done, 1 failed",
            "· wave 2 ──────────────── 0 of 1 done",
            "stopped by itself: 1 failure among 1 result, and the rule is 5% of at least 1;",
            "1 failed: panic",
            "sim-0001 rolled back panic: panicked at src/main.rs:42:5",
        ],
    );
    assert!(show.lines().any(|line| line == "brings lamp 1.1.0"), "no marks are known: {show}");
    server.prints(&["rollout", "show", "1"], [server.answer("GET /rollouts/1")]);
    has(
        &server.tells(&["rollout", "show", "2"]),
        &["wave 1 is done: `otaru rollout advance 2` opens the next"],
    );
    server.tries(&["rollout", "show", "99"]).with_code(1).tells("error: there is no rollout 99\n");

    let watch = server.tries(&["rollout", "watch", "1"]).with_code(1);
    has(
        &super::plain(&watch.out),
        &[
            "rollout 1 \"lamp 1.1.0\" stopped 0 of 2 done, 1 failed",
            "stopped by itself: 1 failure",
            "sim-0001 rolled back panic:",
        ],
    );
    let json = server.tries(&["rollout", "watch", "1", "--json"]).with_code(1).out;
    assert_eq!(json.trim_end(), server.answer("GET /rollouts/1").to_string());
    let held = server.tries(&["rollout", "watch", "2", "--fail-on-hold"]).with_code(1);
    held.tells("it waits for a person: wave 1 is done");
}

#[test]
fn rollouts_are_made_and_steered() {
    let server = older();
    let dry = ["rollout", "create", "lamp@1.2.0", "--dry-run"];
    let told = server.tells(&dry);
    has(
        &told,
        &[
            "4 devices: 1 running it already, 3 reachable now, 0 updating for another rollout",
            "wave 2: 2 devices",
            "such as sim-0002, sim-0003, sim-0004",
        ],
    );
    server.prints(&dry, [server.answer("POST /rollouts/preview")]);

    let create = ["rollout", "create", "lamp@1.2.0"];
    assert_eq!(server.tells(&create), "rollout 2 \"lamp 1.2.0\" running 1 of 4 done");
    let mut usual = json!({
        "name": "lamp 1.2.0", "release": 3, "undo": null, "waves": [], "priority": 0, "start_at": null,
        "end_at": null, "continuous": false, "force": false, "draft": false,
        "target": {"tags": null, "product": "lamp", "chips": ["esp32c3"], "versions": null, "devices": null,
                   "percent": 100.0},
        "limits": {"concurrency": null, "starts_per_minute": null, "window": null},
    });
    assert_eq!(server.asked("POST /rollouts"), usual);
    server.prints(&create, [server.answer("POST /rollouts")]);
    let options =
        ["--tags", "site=berlin", "--wave", "10%", "--soak", "1h", "--stop", "5", "--attempts", "1"];
    server.tells(&[&create[..], &options].concat());
    usual["target"]["tags"] = json!("site=berlin");
    usual["waves"] = json!([{"size": {"percent": 10.0},
                             "gate": {"auto": {"success": 95.0, "soak": 3_600_000, "patience": 0}}}]);
    usual["stop"] = json!({"failures": 5.0, "minimum": 10});
    // What is not given is left to the server.
    usual["attempts"] = json!({"count": 1});
    assert_eq!(server.asked("POST /rollouts"), usual);

    let pause = ["rollout", "pause", "2"];
    assert_eq!(server.tells(&pause), "rollout 2 \"lamp 1.2.0\" paused 1 of 4 done");
    server.prints(&pause, [server.answer("POST /rollouts/2/pause")]);
    let retry = ["rollout", "retry", "1", "sim-0001", "--force"];
    has(&server.tells(&retry), &["rollout 1 \"lamp 1.1.0\" stopped"]);
    assert_eq!(server.asked("POST /rollouts/1/deployments/sim-0001/retry"), json!({"force": true}));
}

#[test]
fn who_makes_a_rollout_has_no_fleet_listed() {
    let server = older();
    server.tells(&["rollout", "create", "lamp@1.2.0"]);
    // All that are named were found; of five, one was not.
    server.tells(&["rollout", "create", "lamp@1.2.0", "--device", "sim-0001"]);
    let named = ["w", "x", "y", "z"].into_iter().flat_map(|id| ["--device", id]).collect::<Vec<_>>();
    let create = ["rollout", "create", "lamp@1.2.0", "--device", "sim-0001"];
    server.tries(&[&create[..], &named].concat()).with_code(1);
    let asked: Vec<String> = server.server.asked().into_iter().map(|(request, _)| request).collect();
    assert!(asked.iter().any(|request| request == "GET /devices/sim-0001"), "{asked:?}");
    assert_eq!(asked.iter().filter(|request| request.starts_with("GET /devices?")).count(), 0, "{asked:?}");
}

#[test]
fn what_cannot_be_read_in_an_order_is_pointed_at() {
    let server = older();
    let create =
        |option: &str, text: &str| server.tries(&["rollout", "create", "3", option, text]).with_code(1);
    create("--tags", "site=").tells("--tags").tells("\n  site=\n       ^");
    create("--versions", ">=x").tells("--versions").tells("\n  >=x\n    ^");
    create("--window", "22:00").tells("22:00-06:00");
    assert!(server.server.asked().iter().all(|(request, _)| request.starts_with("GET ")));
}

#[test]
fn the_fleet_is_watched() {
    let server = older();
    let watch = Running::start(server.command(&["watch"]));
    watch.line("sim-0001: downloading 82% on 1.0.0");
    watch.line("sim-0001: restarting on 1.0.0, away");
    watch.line("rollout 2: running");
    let watch = Running::start(server.command(&["watch", "--json"]));
    let mut event: Value = serde_json::from_str(&watch.line("downloading")).unwrap();
    assert!(event.as_object_mut().unwrap().remove("time").is_some());
    assert_eq!(event, server.answer("GET /events")[0]);
}

#[test]
fn a_login_is_kept() {
    let server = older();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "otaru_1").unwrap();
    let login = |more: &[&str]| {
        let args = ["login", &server.server.url, "--token-file", token.to_str().unwrap()];
        let mut command = server.command(&[&args[..], more].concat());
        command.env("XDG_CONFIG_HOME", dir.path());
        otaru_testing::run(command).with_code(0).out
    };
    assert!(login(&[]).contains(": \"first\", admin. Kept in "));
    let told: Value = serde_json::from_str(&login(&["--json"])).unwrap();
    assert_eq!((&told["name"], &told["role"]), (&json!("first"), &json!("admin")));
}

#[test]
fn a_server_that_is_too_old_or_none_is_told() {
    let list = |answers: &str| Version::start(answers).tries(&["token", "list"]).with_code(1);
    // Moments were milliseconds once.
    list(
        r#"{"GET /tokens": {"items": [{"id": "1", "name": "x", "role": "admin", "created_at": 1795968664075,
             "created_by": "first"}], "next": null}}"#,
    )
    .tells("in another form than this version of `otaru` reads");
    list(r#"{"GET /tokens": "hello"}"#).tells("is it an Otaru server of the same version?");
    list("{}").tells("answered 418").tells("is it an Otaru server?");
}
