//! `otaru demo`: all that it claims is observed, and nothing is left behind.

use std::time::{Duration, Instant};

use otaru_testing::{LIMIT, Running, run};

use crate::common::otaru;

#[test]
fn everything_holds() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = otaru(&["demo", "--exit", "--speed", "4"]);
    command.env("TMPDIR", dir.path());
    let ended = run(command).with_code(0);
    assert!(ended.out.contains("Everything held."), "{}", ended.out);
    assert!(!ended.out.contains('✗'), "{}", ended.out);
    assert!(!ended.out.contains('\x1b'), "no escapes where there is no terminal");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn it_waits_for_the_user_and_ends_with_ctrl_c() {
    let demo = Running::start(otaru(&["demo", "--json", "--speed", "8"]));
    let line = demo.line(r#""event":"demo""#);
    let start: serde_json::Value = serde_json::from_str(&line).unwrap();
    let line = demo.line(r#""event":"waiting""#);
    let waiting: serde_json::Value = serde_json::from_str(&line).unwrap();
    let broker = start["broker"].as_str().unwrap();
    run(otaru(&["push", "--broker", broker, waiting["url"].as_str().unwrap(), "--watch"])).with_code(0);
    assert_eq!(demo.stop(), Some(0));
}

#[test]
fn it_tidies_up_when_nobody_reads_any_more() {
    for (more, first) in [(&[][..], "Otaru"), (&["--json"], r#""event":"demo""#)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = otaru(&["demo", "--speed", "8"]);
        command.args(more).env("TMPDIR", dir.path());
        let mut demo = Running::start(command);
        demo.line(first);
        demo.ignore();
        let deadline = Instant::now() + LIMIT;
        while std::fs::read_dir(dir.path()).unwrap().count() > 0 {
            assert!(Instant::now() < deadline, "the flash dumps are still there: {more:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
