//! Every page as it looks, empty and full, light and dark and on a phone: pictures in `target/screenshots`, no serious finding by
//! axe-core, nothing wider than the screen, and not too heavy.

use std::env;
use std::fs;
use std::path::PathBuf;

use otaru_testing::{run, skipped};
use serde_json::{Value, json};

use crate::browser::chromium::Look;
use crate::browser::desk::Desk;
use crate::common::otaru;

/// The most bytes of a page with all it loads, as they are in the browser.
const HEAVIEST: u64 = 150_000;

/// axe-core, where `cargo xtask test --install` put it.
fn axe() -> Option<String> {
    let file = env::var_os("OTARU_AXE").map(PathBuf::from)?;
    Some(fs::read_to_string(file).unwrap())
}

fn pictures() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("screenshots")
}

/// Looks at a page in every way, and tells what is wrong with it.
fn look_at(desk: &mut Desk, name: &str, path: &str, axe: Option<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    for look in Look::ALL {
        desk.browser.looks(look);
        desk.open(path);
        let browser = &mut desk.browser;
        let wide = browser.eval("document.documentElement.scrollWidth - innerWidth");
        if wide.as_i64().unwrap() > 0 {
            wrong.push(format!("{name} {}: {wide} px wider than the screen", look.name()));
        }
        if let Some(axe) = axe {
            wrong.extend(
                findings(browser, axe).iter().map(|found| format!("{name} {}: {found}", look.name())),
            );
        }
        browser.picture(&pictures().join(format!("{name}-{}.png", look.name())));
        wrong.extend(browser.complaints().into_iter().map(|complaint| format!("{name}: {complaint}")));
    }
    let loaded =
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
                  .reduce((sum, entry) => sum + entry.decodedBodySize, 0)";
    let bytes = desk.browser.eval(loaded).as_u64().unwrap();
    if bytes > HEAVIEST {
        wrong.push(format!("{name}: {bytes} bytes"));
    }
    assert!(bytes > 10_000, "{name}: only {bytes} bytes were counted");
    println!("{name}: {bytes} bytes");
    wrong
}

/// Returns the findings of axe-core that are serious or critical.
fn findings(browser: &mut crate::browser::chromium::Browser, axe: &str) -> Vec<String> {
    browser.eval(&format!("{axe}; 0"));
    let found =
        browser.eval("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)");
    let serious = |found: &&Value| matches!(found["impact"].as_str(), Some("serious" | "critical"));
    let told = found.as_array().unwrap().iter().filter(serious).map(|found| {
        let nodes: Vec<_> =
            found["nodes"].as_array().unwrap().iter().take(3).map(|node| &node["html"]).collect();
        format!("{}: {} {}", found["id"], found["help"], json!(nodes))
    });
    told.collect()
}

fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn axe_or_tell() -> Option<String> {
    let axe = axe();
    if axe.is_none() {
        skipped("no axe-core: cargo xtask test --install, or name its axe.min.js in OTARU_AXE");
    }
    axe
}

#[test]
fn empty_pages_say_what_to_do() {
    let Some(mut desk) = Desk::start(&["--dev"]) else { return };
    let axe = axe_or_tell();
    let mut wrong = look_at(&mut desk, "login", "/login", axe.as_deref());
    desk.log_in();
    for (name, path) in [
        ("overview-empty", "/"),
        ("devices-empty", "/devices"),
        ("releases-empty", "/releases"),
        ("rollouts-empty", "/rollouts"),
        ("plan-empty", "/rollouts/new"),
    ] {
        wrong.extend(look_at(&mut desk, name, path, axe.as_deref()));
    }
    // A page that is nowhere is told to the console by the browser itself.
    let nowhere = look_at(&mut desk, "nowhere", "/nowhere", axe.as_deref());
    wrong.extend(nowhere.into_iter().filter(|wrong| !wrong.contains("404")));
    check(&wrong);
}

#[test]
fn full_pages_are_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("release.pem").display().to_string();
    run(otaru(&["keygen", "-o", &key])).with_code(0);
    let public = dir.path().join("release.pub.pem").display().to_string();
    let Some(mut desk) = Desk::start(&["--dev", "--signing-key", &key]) else { return };
    let axe = axe_or_tell();
    let _devices = desk.devices(90, "20", &["--key", &public]);
    story(&desk);
    desk.log_in();
    let mut wrong = Vec::new();
    for (name, path) in [
        ("overview", "/"),
        ("devices", "/devices"),
        ("devices-none", "/devices?q=nobody"),
        ("device", "/devices/sim-0001"),
        ("releases", "/releases"),
        ("release", "/releases/2"),
        ("rollouts", "/rollouts"),
        ("plan", "/rollouts/new?release=4"),
        ("rollout-stopped", "/rollouts/3"),
        ("rollout-running", "/rollouts/2"),
        ("audit", "/audit"),
        ("access", "/keys"),
    ] {
        wrong.extend(look_at(&mut desk, name, path, axe.as_deref()));
    }
    check(&wrong);
}

/// A good release for all, one that waits after its canaries, and a bad one that stops where it was tried.
fn story(desk: &Desk) {
    let fleet = &desk.fleet;
    let make = |version, behaviour| fleet.firmware_of("300K", version, behaviour);
    let old = fleet.firmware("1.0.0", "healthy");
    fleet.does(&["release", "upload", &old]);
    fleet.does(&[
        "release",
        "upload",
        &make("1.1.0", "healthy"),
        "--notes",
        "Dims smoothly, down to nothing.",
    ]);
    fleet.does(&["rollout", "create", "lamp@1.1.0", "--wave", "2", "--wave", "25%"]);
    fleet.rollout(1, "its end", |rollout| rollout["phase"] == "completed");
    fleet.does(&["release", "upload", &make("1.2.0", "healthy")]);
    let by_hand = ["rollout", "create", "lamp@1.2.0", "--wave", "20%", "--wave", "30%", "--by-hand"];
    fleet.does(&by_hand);
    fleet.rollout(2, "its first wave", |rollout| rollout["gate"].is_object());
    fleet.does(&["release", "upload", &make("1.3.0", "crash")]);
    let bad = ["rollout", "create", "lamp@1.3.0", "--name", "Oslo first", "--tags", "site=oslo"];
    fleet.does(&[&bad[..], &["--wave", "4", "--wave", "50%", "--stop", "25", "--minimum", "4"]].concat());
    fleet.rollout(3, "the stop", |rollout| rollout["phase"] == "stopped");
    fleet.does(&["token", "create", "build server", "--role", "operator"]);
}
