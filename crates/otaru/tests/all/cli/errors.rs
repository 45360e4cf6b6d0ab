//! Errors say what went wrong, and what to do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use otaru_testing::run;

use crate::common::{broker, firmware, otaru, path};

/// An address where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("mqtt://{}", listener.local_addr().unwrap())
}

#[test]
fn brokers_that_cannot_be_reached() {
    let url = nowhere();
    for command in ["watch", "push"] {
        let mut command = otaru(&[command, "--broker", &url]);
        if format!("{command:?}").contains("push") {
            command.arg("http://h/x.bin");
        }
        run(command).with_code(1).tells(&format!("nothing listens at {url}; is the broker running?"));
    }
    run(otaru(&["watch", "--broker", "mqtt://no-such-host.invalid"])).with_code(1).tells("no such host");
}

#[test]
fn broker_urls_that_are_none() {
    for (url, text) in [
        ("http://h", "\"http://\" is not a broker"),
        ("mqtt://h:none", "the port is not a number"),
        ("mqtt://", "the host is missing"),
    ] {
        run(otaru(&["watch", "--broker", url])).with_code(1).tells(text);
    }
    let told = run(otaru(&["watch", "--broker", "mqtt://u:s3cret@h:none"])).with_code(1);
    assert!(!told.err.contains("s3cret"), "{}", told.err);
    run(otaru(&["watch", "--base", "a/#"])).with_code(1).tells("--base");
}

/// A broker that answers every CONNECT with these bytes and closes, as long as the test runs.
fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connect = [0; 1024];
            // A CONNECT is in one piece here; and who has gone away is told nothing.
            let _ = stream.read(&mut connect).and_then(|_| stream.write_all(bytes));
        }
    });
    url
}

#[test]
fn versions_that_a_broker_does_not_speak() {
    let (silent, old) = (answering(&[]), answering(&[0x20, 2, 0, 1]));
    for (url, version, text) in [
        (&silent, "auto", "in MQTT 5 and in 3.1.1; is this a TLS port?"),
        (&silent, "5", "does it speak MQTT 5? --mqtt-version auto finds out"),
        (&old, "auto", "speaks neither MQTT 5 nor 3.1.1"),
        (&old, "5", "does not speak MQTT 5; --mqtt-version auto finds out"),
    ] {
        let told = run(otaru(&["watch", "--broker", url, "--mqtt-version", version]));
        told.with_code(1).tells(&format!("{url} ")).tells(text);
    }
    run(otaru(&["watch", "--mqtt-version", "4"])).with_code(2).tells("auto, 5, 3.1.1");
    run(otaru(&["serve", "--mqtt-version", "5"])).with_code(1).tells("a broker of your own (--mqtt)");
    run(otaru(&["demo", "--mqtt-version", "5"])).with_code(2).tells("--broker");
}

#[test]
fn moments_that_cannot_be() {
    let until = |zone: &str, text: &str| {
        let mut command = otaru(&["token", "create", "x", "--until", text, "--server", "http://127.0.0.1:9"]);
        command.env("TZ", zone).env("OTARU_TOKEN", "x");
        run(command)
    };
    for text in ["@1795922684", "1795922684123", "2027-01-31", "2027-01-31 22", "31.1.2027 22:00"] {
        until("UTC", text).with_code(2).tells("such as 2027-01-31T22:00:00+01:00 (RFC 3339)");
    }
    until("UTC", "1969-12-31 22:00").with_code(2).tells("1970 to 9999");
    until("UTC", "2016-12-31T22:00:60Z").with_code(2).tells("23:59:60 UTC");
    until("UTC", "2001-01-31 22:00").with_code(1).tells("2001-01-31 22:00:00 +00:00 is past");
    // Clocks that are set forward and back: in summer two hours before UTC, in winter one.
    let zone = "CET-1CEST,M3.5.0,M10.5.0/3";
    until(zone, "2027-03-28 02:30").with_code(2).tells("never shows this time");
    until(zone, "2027-10-31 02:30").with_code(2).tells("twice; end it with the offset, +02:00 or +01:00");
    until(zone, "2001-07-01 12:00").with_code(1).tells("2001-07-01 12:00:00 +02:00 is past");
    until(zone, "2001-07-01T12:00Z").with_code(1).tells("2001-07-01 14:00:00 +02:00 is past");
    for option in ["--start-at", "--end-at"] {
        run(otaru(&["rollout", "create", "1", option, "@1795922684"])).with_code(2).tells("RFC 3339");
    }
}

#[test]
fn virtual_devices_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let file = firmware(dir.path(), "1", "healthy");
    let boards = path(dir.path(), "boards");
    let sim = |more: &[&str]| {
        let mut command = otaru(&["sim", "--broker", &url, "--dir", &boards]);
        command.args(more);
        run(command)
    };
    sim(&["--chip", "esp32", "--firmware", file.to_str().unwrap()]).with_code(1).tells("is for esp32c3");
    sim(&[]).with_code(1).tells("--firmware FILE");
    sim(&["--speed", "0"]).with_code(2).tells("a speed is a number");
}

#[test]
fn pushes_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let file = firmware(dir.path(), "1", "healthy");
    let push = |more: &[&str]| {
        let mut command = otaru(&["push", "--broker", &url]);
        command.args(more);
        run(command)
    };
    let file = file.to_str().unwrap();
    push(&[file]).with_code(1).tells("no device is online under ESP32/ota");
    push(&["ftp://h/x.bin"]).with_code(1).tells("only http:// and https:// URLs");
    push(&["--retain", file]).with_code(1).tells("served only while this command runs");
    push(&["--device", "a/b", file]).with_code(1).tells("the device's name has a /");
    // Nobody waits for a name that is misspelt.
    for watch in [&[][..], &["--watch"]] {
        let url = ["--device", "ghost", "http://h/x.bin"];
        push(&[watch, &url].concat()).with_code(1).tells("there is no device ghost");
    }
    push(&["--retain", "--device", "ghost", "http://h/x.bin"]).with_code(0).tells("there is no device ghost");
    push(&["http://h/x.bin"]).with_code(1).tells("no device is online under ESP32/ota");
    push(&[&path(dir.path(), "none.bin")]).with_code(1).tells("No such file");
}

#[test]
fn ports_that_are_taken() {
    let (_broker, url) = broker(&[]);
    let address = url.trim_start_matches("mqtt://");
    run(otaru(&["broker", "--listen", address])).with_code(1).tells("--listen takes another port");
    run(otaru(&["files", "--listen", address, "."])).with_code(1).tells("--listen takes another port");
}

#[test]
fn a_key_that_cannot_be_read_is_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let image = firmware(dir.path(), "1.0.0", "healthy").display().to_string();
    let (missing, text) = (path(dir.path(), "missing.pem"), path(dir.path(), "text.pem"));
    std::fs::write(&text, "hunter2 is the password\n").unwrap();
    let (data, out) = (path(dir.path(), "data"), path(dir.path(), "x.otaru"));
    for (key, why) in [(&missing, "No such file"), (&text, "`otaru keygen` makes")] {
        let free = ["--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--data", &data];
        for args in [
            &[&["serve", "--signing-key", key][..], &free].concat()[..],
            &[&["serve", "--trusted-key", key][..], &free].concat(),
            &["release", &image, "--key", key, "-o", &out],
            &["verify", &image, "--key", key],
            &["resign", &image, "--key", key, "-o", &out],
        ] {
            let told = run(otaru(args)).with_code(1).tells(why).err;
            assert_eq!(
                (told.matches(why).count(), told.matches(key.as_str()).count()),
                (1, 1),
                "{args:?}: {told}"
            );
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn nothing_of_a_file_is_printed_that_is_not_what_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, data, out) =
        (path(dir.path(), "secret.txt"), path(dir.path(), "data"), path(dir.path(), "out"));
    let files = [
        "hunter2".to_owned(),
        "hunter2 ".repeat(200),
        format!("{{\"hunter2\": \"{}\"}}", "hunter2\\n".repeat(100)),
        format!("-----BEGIN PRIVATE KEY-----\n{}", "hunter2\n".repeat(100)),
    ];
    for text in files {
        std::fs::write(&secret, text).unwrap();
        for args in [
            &["restore", &secret, "--data", &data][..],
            &["image", "info", &secret],
            &["inspect", &secret],
            &["verify", &secret, "--contents-only"],
            &["verify", &secret, "--key", &secret],
            &["resign", &secret, "--key", &secret, "-o", &out],
            &["release", &secret, "-o", &out],
            &["delta", "apply", &secret, &secret, "-o", &out],
            &["push", &secret],
            &["sim", "--firmware", &secret],
            &["sim", "--firmware", &secret, "--key", &secret],
        ] {
            let ended = run(otaru(args)).with_code(1);
            let told = format!("{}{}", ended.out, ended.err);
            assert!(!told.contains("hunter2"), "{args:?}: {told}");
        }
    }
    let restore = run(otaru(&["restore", &secret, "--data", &data]));
    restore.with_code(1).tells("secret.txt is no backup; `otaru backup` makes one");
}

#[test]
fn a_password_that_leaves_this_machine_is_warned_of_once() {
    let url = |host: &str| format!("mqtt://me:s3cret@{host}");
    let told = run(otaru(&["watch", "--broker", &url("no-such-host.invalid")])).with_code(1).err;
    assert_eq!(told.matches("in clear").count(), 1, "{told}");
    assert!(told.contains("ssh -L") && !told.contains("s3cret"), "{told}");
    for quiet in [url("127.0.0.1:1"), "mqtt://no-such-host.invalid".into()] {
        let told = run(otaru(&["watch", "--broker", &quiet])).with_code(1).err;
        assert!(!told.contains("in clear"), "{told}");
    }
}
