//! `otaru sim`: what it says before its devices begin.

use otaru_testing::{Running, run};

use crate::common::{broker, firmware, otaru, path};

#[test]
fn one_folder_is_for_one_simulator() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let file = firmware(dir.path(), "1.0.0", "healthy");
    let sim = |boards: &str| {
        let mut command = otaru(&["sim", "--broker", &url, "--dir", boards]);
        command.arg("--firmware").arg(&file);
        command
    };
    let (boards, others) = (path(dir.path(), "boards"), path(dir.path(), "others"));
    let first = Running::start(sim(&boards));
    first.line("virtual device");
    run(sim(&boards)).with_code(1).tells("another `otaru sim`").tells("--dir");
    let second = Running::start(sim(&others));
    second.line("virtual device");
    // Whatever way it ended, the folder is free.
    assert_eq!(first.stop(), Some(0));
    let third = Running::start(sim(&boards));
    third.line("virtual device");
}

#[test]
fn devices_from_before_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, url) = broker(&[]);
    let file = firmware(dir.path(), "1.0.0", "healthy");
    let boards = path(dir.path(), "boards");
    let sim = |devices: &str| {
        let devices = ["--devices", devices, "--firmware", file.to_str().unwrap()];
        Running::start(otaru(&[&["sim", "--broker", &url, "--dir", &boards], &devices[..]].concat()))
    };
    let first = sim("3");
    first.line("3 virtual devices");
    first.line("boot");
    first.stop();
    let second = sim("2");
    second.line("2 devices from before: what is in the flash goes on running");
    second.line("1 other device from before not started; `--devices 3` starts all");
}

#[test]
fn firmware_that_does_not_fit_the_chip_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "large.bin");
    let args = ["--chip", "esp32c3", "--project", "lamp", "--version", "1.0.0", "--size", "64K", "-o", &file];
    let needs = ["--flash-size", "16M", "--min-revision", "101"];
    run(otaru(&[&["image", "make"], &args[..], &needs[..]].concat())).with_code(0);
    let sim = |flash: &str, revision: &str| {
        // Nobody listens there: that is told after the firmware was looked at.
        let nobody = ["sim", "--broker", "mqtt://127.0.0.1:1", "--firmware", &file];
        run(otaru(&[&nobody[..], &["--flash-size", flash, "--chip-revision", revision]].concat()))
            .with_code(1)
    };
    sim("4M", "3").tells("large.bin is for 16.00 MiB of flash").tells("v0.3");
    let fits = sim("16M", "101").err;
    assert!(!fits.contains("large.bin"), "{fits}");
}
