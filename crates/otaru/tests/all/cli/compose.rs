//! The sample of three servers in containers, as far as it can be tried without containers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use otaru_testing::{have, program, run, skipped};
use serde_json::Value;

use crate::common::otaru;

fn packaging() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../packaging"].iter().collect()
}

/// Reads the sample, with its merges, by Python; skips the test loudly where that reads no YAML.
#[track_caller]
fn sample() -> Option<Value> {
    if !have(&["python3"]) {
        return None;
    }
    let read = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let mut command = program("python3");
    command.args(["-c", read]).arg(packaging().join("compose.yaml"));
    let ended = run(command);
    if ended.err.contains("No module named 'yaml'") {
        skipped("no PyYAML: cargo xtask test --install, or pip install pyyaml");
        return None;
    }
    Some(serde_json::from_str(&ended.with_code(0).out).unwrap())
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().map(|text| text.as_str().unwrap()).collect()).unwrap_or_default()
}

#[test]
fn every_option_of_the_servers_is_one_of_serve() {
    let Some(sample) = sample() else { return };
    let services = sample["services"].as_object().unwrap();
    let servers: Vec<_> = services.values().filter(|service| service["image"] == "otaru").collect();
    assert_eq!(servers.len(), 3);
    let mut folders = BTreeSet::new();
    for server in servers {
        let mut args = texts(&server["command"]);
        args.push("--help");
        let help = run(otaru(&args)).with_code(0).out;
        assert!(help.starts_with("Run the fleet server"), "{help}");
        folders.insert(server["volumes"][0].to_string());
        args.insert(1, "--no-such-option");
        run(otaru(&args)).with_code(2);
    }
    assert_eq!(folders.len(), 3, "each has a data folder of its own");
}

#[test]
fn secrets_are_files_that_are_named_and_nowhere_else() {
    let Some(sample) = sample() else { return };
    let known = sample["secrets"].as_object().unwrap();
    let mut used = BTreeSet::new();
    for (name, service) in sample["services"].as_object().unwrap() {
        let name_of = |secret: &'_ Value| secret["source"].as_str().or(secret.as_str()).unwrap().to_owned();
        let own: Vec<String> = service["secrets"].as_array().into_iter().flatten().map(name_of).collect();
        used.extend(own.iter().cloned());
        let text = format!("{} {} {}", service["command"], service["environment"], service["entrypoint"]);
        for path in text.split("/run/secrets/").skip(1) {
            let end = path.find(|c: char| c != '-' && !c.is_ascii_alphanumeric()).unwrap_or(path.len());
            assert!(
                own.iter().any(|secret| *secret == path[..end]),
                "{name} is not given the secret {}",
                &path[..end]
            );
        }
        for (variable, _) in service["environment"].as_object().into_iter().flatten() {
            assert!(!variable.ends_with("PASSWORD"), "{name} has a secret in its environment: {variable}");
        }
    }
    assert_eq!(used, known.keys().cloned().collect(), "each is made, and used");
}

#[test]
fn its_nginx_takes_the_configuration() {
    if !have(&["nginx", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut openssl = program("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ota.example.com"]);
    openssl.args(["-keyout", &path("tls-key"), "-out", &path("tls-certificate")]);
    run(openssl).with_code(0);
    let config = std::fs::read_to_string(packaging().join("compose/nginx.conf")).unwrap();
    let servers = std::fs::read_to_string(packaging().join("nginx-servers.conf")).unwrap();
    // Hosts and files of containers are there only.
    let here = |mut text: String, all: &[(&str, String)]| {
        for (theirs, ours) in all {
            assert!(text.contains(theirs), "{theirs}");
            text = text.replace(theirs, ours);
        }
        text
    };
    let files = [
        ("/etc/ssl/certs/ota.example.com.pem", path("tls-certificate")),
        ("/etc/ssl/private/ota.example.com.key", path("tls-key")),
    ];
    std::fs::write(path("servers.conf"), here(here(servers, &files), &[("ota-", "127.0.0.".to_owned())]))
        .unwrap();
    let own = [("broker:", "127.0.0.1:".to_owned()), ("/etc/nginx/conf.d/*.conf", path("servers.conf"))];
    let mut config = here(here(config, &files), &own);
    let modules = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if std::path::Path::new(modules).is_file() {
        config = format!("load_module {modules};\n{config}");
    } else {
        // The image has the module; without it the rest is looked at.
        config.truncate(config.find("stream {").unwrap());
    }
    std::fs::write(path("nginx.conf"), format!("pid {};\n{config}", path("nginx.pid"))).unwrap();
    let mut nginx = program("nginx");
    nginx.args(["-t", "-p", &path(""), "-c", &path("nginx.conf"), "-e", "stderr"]);
    run(nginx).with_code(0);
}
