//! Boards on a network, as the README has it: the broker and the files are on one host, the board is on another.
//!
//! Each host is a network namespace of its own; what one of them serves on its loopback address the other cannot reach.

use std::path::Path;
use std::process::Command;

use otaru_testing::{Program, have, program, run, skipped};

use crate::common::firmware;

/// The desk's address, and the board's.
const DESK: &str = "10.231.7.1";
const BOARD: &str = "10.231.7.2";

/// Two hosts with a cable between them. They end with the test.
struct Hosts {
    desk: String,
    board: String,
}

impl Hosts {
    /// Nothing where no namespaces can be made; that is told.
    fn new() -> Option<Self> {
        if ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].iter().all(|ip| !Path::new(ip).exists()) {
            skipped("no ip: apt-get install iproute2");
            return None;
        }
        let (desk, board) =
            (format!("otaru-d{}", std::process::id()), format!("otaru-b{}", std::process::id()));
        let ip =
            |words: &str| program("ip").args(words.split(' ')).status().is_ok_and(|status| status.success());
        if !ip(&format!("netns add {desk}")) {
            skipped("network namespaces cannot be made: run it as root");
            return None;
        }
        let hosts = Self { desk: desk.clone(), board: board.clone() };
        let cabled = [
            format!("netns add {board}"),
            format!("-n {desk} link add cable type veth peer name cable netns {board}"),
            format!("-n {desk} addr add {DESK}/30 dev cable"),
            format!("-n {board} addr add {BOARD}/30 dev cable"),
            format!("-n {desk} link set lo up"),
            format!("-n {board} link set lo up"),
            format!("-n {desk} link set cable up"),
            format!("-n {board} link set cable up"),
        ];
        if let Some(failed) = cabled.iter().find(|words| !ip(words)) {
            skipped(&format!("no cable between two namespaces: `ip {failed}` failed"));
            return None;
        }
        Some(hosts)
    }

    /// A command on one of the hosts.
    fn on(host: &str, run: impl AsRef<Path>, arguments: &[&str]) -> Command {
        let mut command = program("ip");
        command.args(["netns", "exec", host]).arg(run.as_ref()).args(arguments);
        command
    }

    fn desk(&self, name: &str, arguments: &[&str]) -> Command {
        Self::on(&self.desk, program(name).get_program(), arguments)
    }

    fn otaru(host: &str, arguments: &[&str]) -> Command {
        Self::on(host, env!("CARGO_BIN_EXE_otaru"), arguments)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.desk, &self.board] {
            let _ = program("ip").args(["netns", "del", host]).status();
        }
    }
}

/// The command blocks of the README's part on boards.
fn readme() -> String {
    let readme = include_str!("../../../../../README.md");
    let part = readme.split("### With boards on your network").nth(1).unwrap();
    part.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn a_board_is_reached_as_the_readme_says() {
    if !have(&["mosquitto", "mosquitto_pub", "python3"]) {
        return;
    }
    let Some(hosts) = Hosts::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let old = firmware(dir.path(), "1.0.0", "healthy");
    firmware(dir.path(), "1.1.0", "healthy");
    let file = firmware(dir.path(), "1.2.0", "healthy");
    // The configuration and the options are those that a reader copies.
    let readme = readme();
    assert!(
        readme.contains(r"printf 'listener 1883 0.0.0.0\nallow_anonymous true\n' > lan.conf"),
        "{readme}"
    );
    assert!(readme.contains("python3 -m http.server --bind 0.0.0.0"), "{readme}");
    let config = dir.path().join("lan.conf");
    std::fs::write(&config, "listener 1883 0.0.0.0\nallow_anonymous true\n").unwrap();
    let broker = Program::start(hosts.desk("mosquitto", &["-c", config.to_str().unwrap()]));
    broker.says("running");
    let mut files = hosts.desk("python3", &["-u", "-m", "http.server", "--bind", "0.0.0.0"]);
    files.current_dir(dir.path());
    let files = Program::start(files);
    files.says("Serving HTTP");
    let boards = dir.path().join("boards");
    let url = format!("mqtt://{DESK}");
    let mut board = Hosts::otaru(&hosts.board, &["sim", "--broker", &url, "--speed", "8", "--dir"]);
    board.arg(&boards).arg("--firmware").arg(&old);
    let board = Program::start(board);
    board.says(": idle");
    let command = ["-h", DESK, "-q", "1", "-t", "ESP32/ota/update", "-m"];
    let update = format!("http://{DESK}:8000/lamp-1.1.0.bin");
    run(hosts.desk("mosquitto_pub", &[command.as_slice(), &[&update]].concat())).with_code(0);
    board.says("1.1.0 on ota_1: confirmed");
    let push = ["push", "--broker", &url, "--timeout", "50", file.to_str().unwrap()];
    let pushed = run(Hosts::otaru(&hosts.desk, &push)).with_code(0);
    assert!(pushed.out.contains("1 of 1 device updated"), "{}", pushed.out);
}
