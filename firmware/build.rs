//! Brings credentials, version and test behaviour into the build, and esp-hal's linker script.

use std::path::PathBuf;
use std::{env, fs};

use otaru_setup::Settings;
use otaru_setup::file::Updates;

const CREDENTIALS: &str = "OTARU_CREDENTIALS";
const VERSION: &str = "OTARU_VERSION";
const BEHAVIOUR: &str = "OTARU_BEHAVIOUR";

fn main() {
    for variable in [CREDENTIALS, VERSION, BEHAVIOUR] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rustc-link-arg-bins=-Tlinkall.x");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "xtensa") {
        // GCC links for Xtensa; esp-hal brings its own start.
        println!("cargo::rustc-link-arg-bins=-nostartfiles");
    }
    version();
    behaviour();
    credentials();
}

/// Stops the build with a sentence.
fn fail(sentence: &str) {
    println!("cargo::error={sentence}");
}

/// The version in the application descriptor, whose field has room for 31 bytes.
fn version() {
    let package = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = env::var(VERSION).unwrap_or(package);
    if version.is_empty() || version.len() > 31 || version.contains(char::is_whitespace) {
        return fail(&format!("{VERSION}={version:?}: a version has 1 to 31 bytes and no spaces"));
    }
    println!("cargo::rustc-env=OTARU_FIRMWARE_VERSION={version}");
}

/// Sets the behaviour that a test asks of the firmware.
fn behaviour() {
    let known: Vec<&str> = include_str!("behaviours.txt").lines().collect();
    let cfgs: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    let cfgs = cfgs.join(", ");
    println!("cargo::rustc-check-cfg=cfg(behaviour, values({cfgs}))");
    for name in env::var(BEHAVIOUR).unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        match known.contains(&name) {
            true => println!("cargo::rustc-cfg=behaviour=\"{name}\""),
            false => fail(&format!("{BEHAVIOUR}={name}: use some of {}", known.join(" "))),
        }
    }
}

/// Credentials, as the record that flash would hold; empty for a firmware without. And whose updates it takes.
fn credentials() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let file = match env::var_os(CREDENTIALS) {
        Some(none) if none == "none" => {
            println!(
                "cargo::warning=nothing is built in: this firmware takes updates without a signature from whoever may \
                 publish at its broker. A credentials file with nothing but [updates] in it names keys instead"
            );
            return write(None, &Updates { keys: vec![], allow_unsigned: true, hosts: vec![] });
        }
        // Relative to where the build was started, which a build script does not know: xtask makes it absolute.
        Some(path) => folder.join(path),
        None => folder.join("network_credentials.toml"),
    };
    println!("cargo::rerun-if-changed={}", file.display());
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            return fail(&format!(
                "{}: {error}. Copy {} there and fill it in, name another file in {CREDENTIALS}, or set \
                 {CREDENTIALS}=none for a firmware that is told by phone",
                file.display(),
                folder.join("network_credentials.example.toml").display(),
            ));
        }
    };
    match otaru_setup::file::read(&text) {
        Ok(contents) => write(contents.settings.as_ref(), &contents.updates),
        Err(error) => {
            let example = "network_credentials.example.toml shows how it should look";
            fail(&format!("{}:{}: {}; {example}", file.display(), error.line, error.what));
        }
    }
}

fn write(settings: Option<&Settings>, updates: &Updates) {
    let Updates { keys, allow_unsigned, hosts } = updates;
    let record = settings.map(otaru_setup::record::encode).unwrap_or_default();
    let hosts: String =
        hosts.iter().map(|host| format!("otaru_device::AllowedHost::new({host:?}), ")).collect();
    let keys: String = keys
        .iter()
        .map(|key| format!("otaru_device::PublicKey::from_bytes({:?}), ", key.as_bytes()))
        .collect();
    let trust = format!("({allow_unsigned}, &[{keys}], &[{hosts}])");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let written =
        fs::write(out.join("credentials.bin"), record).and_then(|()| fs::write(out.join("trust.rs"), trust));
    if let Err(error) = written {
        fail(&format!("cannot write the credentials: {error}"));
    }
}
