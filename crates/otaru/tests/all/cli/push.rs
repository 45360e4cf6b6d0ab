//! `otaru push` against a broker and virtual devices, all of them the real binary.

use otaru_api::Timestamp;
use otaru_testing::{Ended, Running, run};

use crate::common::{broker, devices, firmware, otaru, path, selected};

fn push(broker: &str, more: &[&str]) -> Ended {
    let mut command = otaru(&["push", "--timeout", "45", "--broker", broker]);
    command.args(more);
    run(command)
}

#[test]
fn a_good_image_ends_up_running_on_every_device() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let old = firmware(dir.path(), "1.0.0", "healthy");
    let new = firmware(dir.path(), "1.1.0", "healthy");
    let devices = devices(&url, dir.path(), &old, 2);
    // What fills the file up would not fit a slot, and is not sent.
    let image = std::fs::read(&new).unwrap();
    let mut padded = image.clone();
    padded.resize(3 << 20, 0xFF);
    std::fs::write(&new, padded).unwrap();
    let ended = push(&url, &[new.to_str().unwrap()]).with_code(0).tells("were left out");
    assert!(ended.out.contains("2 of 2 devices updated"), "{}", ended.out);
    assert_eq!(devices.stop(), Some(0));
    for name in ["sim-0001.bin", "sim-0002.bin"] {
        let (slot, bytes) = selected(&dir.path().join("boards").join(name), image.len());
        assert_eq!(slot, 1);
        assert!(bytes == image, "{name}: the slot differs from the file");
    }
}

#[test]
fn devices_go_on_where_they_were_and_current_firmware_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let old = firmware(dir.path(), "1.0.0", "healthy");
    let new = firmware(dir.path(), "1.1.0", "healthy");
    let first = devices(&url, dir.path(), &old, 1);
    push(&url, &[new.to_str().unwrap()]).with_code(0);
    assert_eq!(first.stop(), Some(0));
    let again = devices(&url, dir.path(), &old, 1);
    let ended = push(&url, &["--json", "-d", "sim-0001", new.to_str().unwrap()]).with_code(0);
    assert!(ended.out.contains(r#""state":"current""#), "{}", ended.out);
    let summary = ended.out.lines().last().unwrap();
    assert!(summary.contains(r#""ok":true"#) && summary.contains(r#""outcome":"current""#), "{}", ended.out);
    let ended = push(&url, &["-d", "sim-0001", new.to_str().unwrap()]).with_code(0);
    assert!(ended.out.contains("✓ 1 of 1 device runs it already"), "{}", ended.out);
    drop(again);
}

#[test]
fn a_crashing_image_is_rolled_back_and_push_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let old = firmware(dir.path(), "1.0.0", "healthy");
    let bad = firmware(dir.path(), "1.1.0", "crash");
    let _devices = devices(&url, dir.path(), &old, 1);
    let ended = push(&url, &[bad.to_str().unwrap()]).with_code(1);
    for text in ["0 of 1 device updated", "rolled back", "image 1.1.0", "panicked at"] {
        assert!(ended.out.contains(text), "{text} in {}", ended.out);
    }
    let image = std::fs::read(&old).unwrap();
    let (slot, bytes) = selected(&dir.path().join("boards/sim-0001.bin"), image.len());
    assert!(slot == 0 && bytes == image);
    let again = push(&url, &[bad.to_str().unwrap()]).with_code(1);
    assert!(again.out.contains("failed_before"), "{}", again.out);
}

#[test]
fn a_url_is_offered_and_watch_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let old = firmware(dir.path(), "1.0.0", "healthy");
    firmware(dir.path(), "1.1.0", "healthy");
    let _devices = devices(&url, dir.path(), &old, 1);
    let files = Running::start(otaru(&["files", "--listen", "127.0.0.1:0", &path(dir.path(), "")]));
    let firmware = files.line("lamp-1.1.0.bin").trim().to_owned();
    let watch = Running::start(otaru(&["watch", "--json", "--broker", &url]));
    let status: serde_json::Value = serde_json::from_str(&watch.line(r#""event":"status""#)).unwrap();
    let time: Timestamp = status["time"].as_str().unwrap().parse().unwrap();
    assert_eq!(status["time"], time.to_string(), "it is RFC 3339 in UTC, with milliseconds");
    let ended = push(&url, &["--deployment", "spring", &firmware]).with_code(0);
    assert!(ended.out.contains("Offered http://"), "{}", ended.out);
    watch.line(r#""deployment":"spring""#);
    watch.line(r#""state":"confirmed""#);
    files.line("GET /lamp-1.1.0.bin  200");
    push(&url, &["--watch", &firmware]).with_code(0);
    assert_eq!(watch.stop(), Some(0));
}

#[test]
fn logins_are_needed_checked_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let secret = path(dir.path(), "secret");
    std::fs::write(&secret, "hun:ter/2\n").unwrap();
    let (_broker, url) = broker(&["--username", "fleet", "--password-file", &secret]);
    let firmware = "http://h/x.bin";
    push(&url, &[firmware]).with_code(1).tells("wants a login");
    let wrong = push(&url.replace("://", "://fleet:wr0ng@"), &[firmware]).with_code(1);
    assert!(!wrong.err.contains("wr0ng"), "{}", wrong.err);
    wrong.tells("refused the login of \"fleet\"");
    push(&url.replace("://", "://fleet:hun%3Ater%2F2@"), &["--retain", firmware]).with_code(0);
    let mut by_environment = otaru(&["push", "--broker", &url, "--username", "fleet", "--retain", firmware]);
    by_environment.env("OTARU_PASSWORD", "hun:ter/2");
    run(by_environment).with_code(0);
}

#[test]
fn who_gives_up_cancels_what_has_not_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let old = firmware(dir.path(), "1.0.0", "healthy");
    let new = path(dir.path(), "long.bin");
    let make =
        ["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", "1.1.0", "--size", "1M"];
    run(otaru(&[&make[..], &["-o", new.as_str()]].concat())).with_code(0);
    let mut command = otaru(&["sim", "--speed", "1", "--broker", &url, "--devices", "2", "--firmware"]);
    command.arg(&old);
    let devices = Running::start(command);
    for _ in 0..2 {
        devices.line(": idle");
    }
    let began = || {
        let push = Running::start(otaru(&["push", "--broker", &url, &new]));
        push.line("sim-0001      1.0.0 on ota_0: downloading");
        push
    };
    assert_eq!(began().stop(), Some(1));
    for _ in 0..2 {
        devices.line(": cancelled");
    }
    let push = began();
    let ended = run(otaru(&["cancel", "--all", "--broker", &url])).with_code(0);
    assert!(ended.out.contains("sim-0001: cancelled"), "{}", ended.out);
    push.line("0 of 2 devices updated");
    let cancel = |which: &[&str]| run(otaru(&[&["cancel", "--broker", url.as_str()][..], which].concat()));
    let idle = cancel(&["--device", "sim-0001"]).with_code(0);
    assert_eq!(idle.out.trim(), "sim-0001: is not updating (cancelled)");
    cancel(&["--all"]).with_code(1).tells("no device under ESP32/ota is updating");
    cancel(&["--device", "sim-001"]).with_code(1).tells("did you mean sim-000");
    cancel(&[]).with_code(2);
}

#[test]
fn a_password_in_a_url_is_shown_nowhere() {
    let (_broker, url) = broker(&[]);
    let ended = push(&url, &["--retain", "http://me:s3cret@h/x.bin"]).with_code(1);
    assert!(!format!("{}{}", ended.out, ended.err).contains("s3cret"), "{}", ended.err);
}
