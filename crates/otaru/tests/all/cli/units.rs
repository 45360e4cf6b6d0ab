//! The systemd unit, and what a server of several adds to it: systemd takes them, and the options are those of `otaru serve`.

use std::path::PathBuf;

use otaru_testing::{have, program, run};

use crate::common::otaru;

fn text_of(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../packaging", name].iter().collect();
    std::fs::read_to_string(path).unwrap()
}

/// Returns the arguments of the last command that a unit starts.
fn arguments(unit: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let command = joined.lines().filter_map(|line| line.strip_prefix("ExecStart=/")).next_back().unwrap();
    let words = command.split_whitespace().skip(1);
    words
        .map(|word| word.replace("${STATE_DIRECTORY}", "data").replace("${CREDENTIALS_DIRECTORY}", "secrets"))
        .collect()
}

#[test]
fn what_units_start_is_what_serve_takes() {
    for name in ["otaru.service", "otaru.service.d/cluster.conf"] {
        let arguments = arguments(&text_of(name));
        let with = |more| {
            let all: Vec<_> = arguments.iter().map(String::as_str).chain([more]).collect();
            run(otaru(&all))
        };
        with("--help").with_code(0);
        // Others before it would be told first.
        with("--no-such-option").with_code(2).tells("--no-such-option");
    }
}

#[test]
fn systemd_takes_the_units() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("otaru.service");
    let here = |name: &str| {
        let text = text_of(name);
        let program = otaru(&[]).get_program().to_str().unwrap().to_owned();
        assert!(text.contains("/usr/local/bin/otaru"), "{name}");
        text.replace("/usr/local/bin/otaru", &program)
    };
    std::fs::write(&unit, here("otaru.service")).unwrap();
    let addition = dir.path().join("otaru.service.d");
    std::fs::create_dir(&addition).unwrap();
    let cluster = here("otaru.service.d/cluster.conf");
    // As it is, and with a folder in place of a bucket.
    let of_a_folder = ["DynamicUser=", "User=", "RequiresMountsFor=", "ReadWritePaths="]
        .iter()
        .fold(cluster.clone(), |text, line| text.replace(&format!("#{line}"), line))
        .replace("User=otaru", "User=root");
    assert_ne!(cluster, of_a_folder);
    for text in [&cluster, &of_a_folder] {
        std::fs::write(addition.join("cluster.conf"), text).unwrap();
        let mut analyze = program("systemd-analyze");
        analyze.arg("verify").arg(&unit);
        let told = run(analyze).with_code(0).err;
        let own: Vec<_> = told.lines().filter(|line| line.contains("otaru")).collect();
        assert!(own.is_empty(), "{own:?}");
    }
    std::fs::write(addition.join("cluster.conf"), "[Service]\nDynamicUse=no\n").unwrap();
    let mut analyze = program("systemd-analyze");
    analyze.arg("verify").arg(&unit);
    assert!(run(analyze).err.contains("DynamicUse"), "it would tell");
}
