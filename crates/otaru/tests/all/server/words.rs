//! Questions that nothing answers, words that are misspelt, secrets that are good no longer: what the command line says.

use otaru_testing::{Program, program, run};

use crate::common::otaru;
use crate::server::fleet::Fleet;

#[test]
fn what_nothing_matches_is_an_error_that_says_what_there_is() {
    let fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let none = fleet.tries(&["release", "upload", &new, "--rollout"]).with_code(1);
    none.tells("there is no device yet").tells("no rollout was made");
    let _devices = fleet.devices(&old, 2, &[]);
    fleet.does(&["devices", "tag", "sim-0001", "--set", "site=berlin"]);

    fleet.tries(&["devices", "--state", "rolledback"]).with_code(1).tells("did you mean rolled_back?");
    fleet.tries(&["devices", "--state", "rolled_back"]).with_code(1).tells("there is idle (2)");
    fleet.tries(&["devices", "--json", "-q", "kitchen"]).with_code(1).tells("sim-0001, sim-0002");
    let tags = fleet.tries(&["devices", "--tags", "site=belin"]).with_code(1);
    tags.tells("there is site=berlin").tells("did you mean site=berlin?");
    fleet
        .tries(&["devices", "--tags", "site=berlin", "-q", "sim-0002"])
        .with_code(1)
        .tells("no device meets all of it");
    fleet.tries(&["devices", "show", "sim-001"]).with_code(1).tells("did you mean sim-0001?");
    fleet
        .tries(&["devices", "tag", "--filter-tags", "canary", "--set", "x"])
        .with_code(1)
        .tells("nothing is tagged");
    for blank in [["--filter-tags", ""], ["--filter-product", " "]] {
        let tag = fleet.tries(&[&["devices", "tag", "--set", "x"][..], &blank].concat()).with_code(2);
        tag.tells("it is empty, which would mean every device");
    }

    let create = |more: &[&str]| fleet.tries(&[&["rollout", "create", "lamp@1.1.0"][..], more].concat());
    for dry in [&[][..], &["--dry-run"]] {
        create(&[dry, &["--device", "sim-001"]].concat()).with_code(1).tells("did you mean sim-000");
        create(&[dry, &["--tags", "site=paris"]].concat()).with_code(1).tells("there is site=berlin");
        create(&[dry, &["--versions", ">=2.0.0"]].concat()).with_code(1).tells("there is 1.0.0 (2)");
    }
    create(&["--tags", "site="]).with_code(1).tells("\n  site=\n       ^");
    fleet.tries(&["rollout", "create", "lamp@1.1"]).with_code(1).tells("did you mean lamp@1.1.0?");
    fleet.tries(&["rollout", "list", "--phase", "runing"]).with_code(1).tells("did you mean running?");
    fleet.tries(&["release", "list", "--product", "lmap"]).with_code(1).tells("did you mean lamp?");
    assert_eq!(fleet.asks(&["rollout", "list"]).len(), 0, "nothing was made");
    // Who waits for devices that are yet to come may.
    create(&["--tags", "site=paris", "--continuous"]).with_code(0).tells("there is site=berlin");
}

#[test]
fn what_was_taken_back_is_named_with_the_way_out() {
    let fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let devices = fleet.devices(&old, 1, &[]);
    fleet.does(&["release", "upload", &new]);
    fleet.does(&["release", "yank", "lamp@1.1.0"]);
    let create = || fleet.tries(&["rollout", "create", "lamp@1.1.0", "--draft"]);
    create().with_code(1).tells("was yanked").tells("`otaru release unyank 1`");
    fleet.does(&["release", "unyank", "lamp@1.1.0"]);
    create().with_code(0);

    drop(devices);
    let retire = fleet.tries(&["devices", "retire", "sim-0001"]).with_code(1);
    retire.tells("--yes says yes");
    fleet.does(&["devices", "retire", "sim-0001", "--yes"]);
    for tried in [&["devices", "retire", "sim-0001", "--yes"][..], &["devices", "password", "sim-0001"]] {
        fleet.tries(tried).with_code(1).tells("sim-0001 is retired");
    }
    assert_eq!(fleet.asks(&["devices", "--retired"]).len(), 1);
    let taken_back = fleet.does(&["devices", "unretire", "sim-0001"]);
    assert!(taken_back.contains("tries again within a minute"), "{taken_back}");
    assert_eq!(fleet.asks(&["devices"]).len(), 1);
}

#[test]
fn a_rollout_that_waits_for_a_person_says_so() {
    let fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let _devices = fleet.devices(&old, 3, &[]);
    fleet.does(&["release", "upload", &new]);
    let held = fleet.tries(&[
        "rollout",
        "create",
        "lamp@1.1.0",
        "--wave",
        "1",
        "--by-hand",
        "--watch",
        "--fail-on-hold",
    ]);
    let held = held.with_code(1).tells("wave 1 is done: `otaru rollout advance 1` opens the next");
    assert!(
        held.out.contains("  wave 1 is done"),
        "it is told where no exit code is wanted too: {}",
        held.out
    );
    assert!(!held.out.contains("0 of 0"), "{}", held.out);
    fleet.does(&["rollout", "advance", "1"]);
    fleet.does(&["rollout", "watch", "1", "--fail-on-hold"]);
}

#[test]
fn a_rollout_that_is_watched_no_longer_goes_on() {
    let mut fleet = Fleet::start(&["--dev"]);
    fleet.does(&["release", "upload", &fleet.firmware("1.1.0", "healthy")]);
    let create = ["rollout", "create", "lamp@1.1.0", "--continuous", "--watch"];
    let watched = || {
        let watching = Program::start(fleet.user(&create));
        watching.says("running");
        watching
    };
    // Ctrl-C ends the watching alone.
    let (first, second) = (watched(), watched());
    let mut interrupt = program("kill");
    interrupt.args(["-INT", &first.id().to_string()]);
    run(interrupt).with_code(0);
    first.says("the rollout goes on at the server");
    assert_eq!(fleet.asks(&["rollout", "show", "1"])[0]["phase"], "running");
    fleet.kill();
    second.says("nothing listens at");
    second.says("the rollout goes on at the server");
    second.says("`otaru rollout watch 2` shows it again");
    fleet.begin();
    assert_eq!(fleet.asks(&["rollout", "show", "2"])[0]["phase"], "running");
}

#[test]
fn moments_are_rfc_3339_in_and_out() {
    let fleet = Fleet::start(&["--dev"]);
    fleet.does(&["release", "upload", &fleet.firmware("1.1.0", "healthy")]);
    let in_zone = |args: &[&str]| {
        let mut command = fleet.user(args);
        command.env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
        run(command).with_code(0).out
    };
    // One by this machine's clock, one by another's.
    let create = ["rollout", "create", "lamp@1.1.0", "--start-at", "2126-07-01 22:00"];
    let told = in_zone(&[&create[..], &["--end-at", "2126-08-01T22:00:00-08:00"]].concat());
    assert!(told.contains("it starts in ") && told.contains("(2126-07-01 22:00:00 +02:00)"), "{told}");
    assert!(told.contains("have not begun by 2126-08-02 08:00:00 +02:00 are given up"), "{told}");
    let rollout = &fleet.asks(&["rollout", "show", "1"])[0];
    assert_eq!(rollout["spec"]["start_at"], "2126-07-01T20:00:00.000Z");
    assert_eq!(rollout["spec"]["end_at"], "2126-08-02T06:00:00.000Z");
    assert!(in_zone(&["rollout", "show", "1"]).contains("(2126-07-01 22:00:00 +02:00)"));

    let until = |more: &[&str]| fleet.asks(&[&["token", "create", "x"][..], more].concat()).remove(0);
    assert_eq!(until(&["--until", "2126-07-01T22:00Z"])["expires_at"], "2126-07-01T22:00:00.000Z");
    assert!(until(&["--for", "90d"])["expires_at"].as_str().unwrap().ends_with('Z'));
    let told = in_zone(&["token", "create", "fair", "--until", "2126-01-01 22:00"]);
    assert!(told.contains("It ends in ") && told.contains("(2126-01-01 22:00:00 +01:00)"), "{told}");
    assert!(in_zone(&["token", "list"]).contains("ends in "));
    // How long ago something was, tables tell as before.
    for list in [&["release", "list"][..], &["rollout", "list"], &["token", "list"]] {
        let told = in_zone(list);
        assert!(told.contains("now") || told.contains(" s ago"), "{told}");
    }
}

#[test]
fn what_was_typed_wins_and_secrets_end_with_precise_words() {
    let fleet = Fleet::start(&["--dev"]);
    let dir = fleet.dir.path();
    let help = run(otaru(&["devices", "--help"])).with_code(0).out;
    assert!(help.contains("OTARU_TOKEN") && help.contains("--token-file"), "{help}");

    let made = fleet.asks(&["token", "create", "wall", "--role", "viewer"]).remove(0);
    let file = dir.join("token").display().to_string();
    std::fs::write(&file, made["text"].as_str().unwrap()).unwrap();
    // The environment has the admin's token; the file is what was typed.
    fleet.tries(&["token", "list", "--token-file", &file]).with_code(1).tells("admin");
    fleet.tries(&["token", "revoke", "wal"]).with_code(1).tells("did you mean wall?");
    fleet.does(&["token", "revoke", "wall"]);
    fleet.tries(&["devices", "--token-file", &file]).with_code(1).tells("this token was revoked at 2");
    fleet.tries(&["token", "revoke", "wall"]).with_code(1).tells("is revoked already");
    fleet.does(&["devices", "key", "create", "line 1"]);
    fleet.does(&["devices", "key", "revoke", "line 1"]);

    // A broker that was typed is watched, though the environment names a server.
    let nobody = format!("mqtt://127.0.0.1:{}", otaru_testing::free_port());
    fleet.tries(&["watch", "--broker", &nobody]).with_code(1).tells("nothing listens at mqtt://");
    let server = format!("http://127.0.0.1:{}", fleet.http);
    fleet.tries(&["watch", "--broker", &nobody, "--server", &server]).with_code(1).tells("not both");
    let password = dir.join("password").display().to_string();
    std::fs::write(&password, "from the file").unwrap();
    let mut command = fleet.user(&[
        "push",
        "--username",
        "u",
        "--password-file",
        &password,
        "--broker",
        &nobody,
        "http://h/x",
    ]);
    command.env("OTARU_PASSWORD", "from the environment");
    run(command).with_code(1).tells("nothing listens at");
    let mut command =
        fleet.user(&["serve", "--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--data"]);
    command.arg(fleet.data()).env("OTARU_MQTT", "mqtt://127.0.0.1:1");
    run(command).with_code(1).tells("another server uses");
}
