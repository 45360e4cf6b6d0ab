//! The first token, and the way back for whoever lost the last one.

use std::net::TcpListener;
use std::process::Stdio;

use otaru_testing::{Ended, free_port, run};

use crate::common::otaru;
use crate::server::fleet::{Fleet, database};

/// `otaru token create` in the folder of a server.
fn offline(fleet: &Fleet, args: &[&str]) -> Ended {
    let mut command = otaru(&["token", "create"]);
    // Where the environment names a server, what was typed counts.
    command.args(args).arg("--data").arg(fleet.data()).env("OTARU_SERVER", "http://127.0.0.1:1");
    run(command)
}

#[test]
fn a_start_that_fails_makes_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let serve = |mqtt: &str| {
        let http = format!("127.0.0.1:{}", free_port());
        let mut command = otaru(&["serve", "--http", &http, "--mqtt-listen", mqtt]);
        command.arg("--data").arg(dir.path().join("data"));
        command
    };
    run(serve(&taken.local_addr().unwrap().to_string())).with_code(1).tells("for MQTT");
    let tokens = || -> i64 {
        let sql = "SELECT count(*) FROM tokens WHERE revoked_at IS NULL";
        database(&dir.path().join("data")).query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(tokens(), 0);
    // Nor is one left that nobody could read.
    let mut command = serve("127.0.0.1:0");
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap()).stderr(Stdio::piped());
    let ended = command.output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && told.contains("the next start makes another"), "{told}");
    let server = otaru_testing::Program::start(serve("127.0.0.1:0"));
    server.says("before it showed its first admin token");
    server.says("  otaru_");
    assert_eq!(tokens(), 1);
}

#[test]
fn a_token_that_was_lost_is_replaced_while_the_server_is_stopped() {
    let mut fleet = Fleet::start(&[]);
    offline(&fleet, &["me", "--role", "admin"])
        .with_code(1)
        .tells("is running")
        .tells("stop the server first");
    fleet.stop();
    offline(&fleet, &["me", "--role", "admin", "--server", "http://127.0.0.1:1"])
        .with_code(1)
        .tells("not both");
    offline(&fleet, &[" ", "--role", "admin"]).with_code(1).tells("a name has 1 to 100 characters");
    let mut nowhere = otaru(&["token", "create", "me", "--data"]);
    nowhere.arg(fleet.dir.path().join("nowhere"));
    run(nowhere).with_code(1).tells("holds no server's data");
    assert!(!fleet.dir.path().join("nowhere").exists());

    // What cannot be shown is good for nobody.
    let mut unread = otaru(&["token", "create", "unread", "--role", "admin", "--data"]);
    unread.arg(fleet.data()).stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let ended = unread.stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("so it was revoked again"), "{ended:?}");

    let made = offline(&fleet, &["me", "--role", "admin", "--for", "1d", "--json"]).with_code(0).out;
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["role"], made["expires_at"].is_string()), (&"admin".into(), true), "{made}");
    let text = offline(&fleet, &["wall"]).with_code(0).out;
    assert!(text.contains("shown this once") && text.matches("otaru_").count() == 1, "{text}");

    fleet.begin();
    fleet.token = made["text"].as_str().unwrap().to_owned();
    let tokens = fleet.asks(&["token", "list"]);
    let good: Vec<_> = tokens.iter().filter(|token| token["revoked_at"].is_null()).collect();
    assert_eq!(good.len(), 3, "the first, me and wall: {tokens:?}");
    assert!(good.iter().any(|token| token["name"] == "wall" && token["role"] == "viewer"));
    assert_eq!(
        fleet
            .count("SELECT count(*) FROM audit WHERE actor = 'offline' AND detail LIKE '%\"offline\":true%'"),
        4,
        "three were made, and one was ended"
    );
    let again = otaru_testing::Program::start({
        fleet.stop();
        let mut command = otaru(&["serve", "--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
        command.arg("--data").arg(fleet.data());
        command
    });
    again.says("Log in with a token that you have");
    again.says("otaru token create NAME --role admin --data");
}

#[test]
fn secrets_that_cannot_be_shown_are_ended_or_named() {
    let fleet = Fleet::start(&[]);
    let unread = |args: &[&str]| {
        let mut command = fleet.user(args);
        command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let ended = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    for json in [&[][..], &["--json"]] {
        for make in [&["token", "create", "x"][..], &["devices", "key", "create", "x"]] {
            let told = unread(&[make, json].concat());
            assert!(told.contains("so it was revoked again"), "{told}");
        }
    }
    let told = unread(&["devices", "add", "lamp"]);
    assert!(told.contains("`otaru devices password lamp` makes another"), "{told}");
    assert_eq!(fleet.count("SELECT count(*) FROM tokens WHERE revoked_at IS NULL"), 1);
    assert_eq!(fleet.count("SELECT count(*) FROM fleet_keys WHERE revoked_at IS NULL"), 0);
}
