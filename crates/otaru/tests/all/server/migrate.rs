//! A fleet moves from SQLite into PostgreSQL, and goes on there.

use std::time::Duration;

use otaru_testing::postgres::{Postgres, psql};
use otaru_testing::{LIMIT, Program, eventually, run};
use serde_json::Value;

use crate::common::otaru;
use crate::server::fleet::{Fleet, database};

#[test]
fn a_server_over_the_moved_fleet_shows_what_it_showed_before() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.create("fleet");
    let mut fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let devices = fleet.devices(&old, 3, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    fleet.rollout(1, "the rollout to complete", |rollout| rollout["phase"] == "completed");
    drop(devices);
    eventually("all devices to be gone", LIMIT, || {
        fleet.asks(&["devices"]).iter().all(|device| device["reachable"] == false).then_some(())
    });
    let shown = |fleet: &Fleet| {
        let lists = [&["devices"][..], &["release", "list"], &["rollout", "show", "1"]];
        lists.map(|list| fleet.asks(list).iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let names = |fleet: &Fleet| {
        fleet.asks(&["token", "list"]).iter().map(|token| token["id"].clone()).collect::<Vec<_>>()
    };
    let (before, tokens) = (shown(&fleet), names(&fleet));
    let data = fleet.data().display().to_string();
    let migrate = || otaru(&["migrate", "--from", &data, "--to", &url]);
    run(migrate()).with_code(1).tells("is running; stop it first");
    fleet.stop();
    let told = run(migrate()).with_code(0).out;
    assert!(told.contains("deployments") && told.contains("the fleet is whole"), "{told}");
    run(migrate()).with_code(1).tells("is not empty");

    fleet.more(&["--database", &url]);
    fleet.begin();
    assert_eq!((shown(&fleet), names(&fleet)), (before, tokens), "with the token that was good before");
    // It goes on with new numbers, and the firmware of before.
    let devices = fleet.devices(&new, 3, &[]);
    fleet.does(&["rollout", "create", "lamp@1.1.0"]);
    fleet.rollout(2, "the next rollout to complete", |rollout| rollout["phase"] == "completed");
    drop(devices);
    fleet.stop();
    // The folder alone is no backup any more, and a token is made in the database.
    let file = fleet.dir.path().join("b.tar").display().to_string();
    let tries = |args: &[&str]| run(otaru(args)).with_code(1);
    tries(&["backup", "--data", &data, "-o", &file]).tells("keeps its fleet in PostgreSQL");
    tries(&["backup", "--database", &url, "-o", &file]).tells("pg_dump");
    tries(&["restore", &file, "--database", &url]).tells("pg_restore");
    tries(&["token", "create", "me", "--data", &data]).tells("name the database with --database");
    fleet.begin();
    let made = run(otaru(&["token", "create", "me", "--role", "admin", "--json", "--database", &url]))
        .with_code(0)
        .out;
    let made: Value = serde_json::from_str(&made).unwrap();
    let mut command = fleet.user(&["token", "list"]);
    command.env("OTARU_TOKEN", made["text"].as_str().unwrap());
    run(command).with_code(0);
}

#[test]
fn one_that_is_killed_in_the_middle_leaves_an_empty_database() {
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.create("fleet");
    let mut fleet = Fleet::start(&["--dev"]);
    fleet.stop();
    let rows = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000)
                INSERT INTO audit (at, actor, action, object) SELECT n, 'a', 'b', 'c' FROM c";
    database(&fleet.data()).execute_batch(rows).unwrap();
    let data = fleet.data().display().to_string();
    let migrate = || otaru(&["migrate", "--json", "--from", &data, "--to", &url]);
    let moving = Program::start(migrate());
    moving.says("\"event\":\"copied\"");
    moving.freeze();
    let said = moving.lines().join("\n");
    assert!(!said.contains("\"event\":\"migrate\""), "it was too fast to be killed in the middle: {said}");
    let busy =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'otaru' AND xact_start IS NOT NULL";
    assert_eq!(psql(&url, busy).unwrap(), "1", "its transaction is under way");
    drop(moving);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    eventually("its session to be gone", Duration::from_secs(60), || {
        (psql(&url, busy).ok()? == "0").then_some(())
    });
    assert_eq!(psql(&url, tables).unwrap(), "0");
    // Nothing is in the way of the next.
    let events = run(migrate()).with_code(0).out;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    let audit = last["tables"].as_array().unwrap().iter().find(|table| table["table"] == "audit").unwrap();
    assert!(
        audit["rows"].as_u64().unwrap() >= 300_000 && audit["sha256"].as_str().unwrap().len() == 64,
        "{audit}"
    );
}
