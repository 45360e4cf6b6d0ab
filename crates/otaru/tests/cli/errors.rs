//! What goes wrong is said in words that tell what to do.

use std::net::TcpListener;

use crate::common::{broker, firmware, otaru, path, run};

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
        ("mqtts://h", "TLS to the broker is not built in yet"),
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
    push(&["https://h/x.bin"]).with_code(1).tells("only http:// URLs");
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
