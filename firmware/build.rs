//! Brings credentials, version and test behaviour into the build, and esp-hal's linker script.

use std::path::{Path, PathBuf};
use std::{env, fs};

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

/// What a test wants the firmware to do wrong.
fn behaviour() {
    let known = ["crash", "hang", "unhealthy"];
    let cfgs = known.map(|name| format!("\"{name}\"")).join(", ");
    println!("cargo::rustc-check-cfg=cfg(behaviour, values({cfgs}))");
    match env::var(BEHAVIOUR) {
        Ok(name) if known.contains(&name.as_str()) => println!("cargo::rustc-cfg=behaviour=\"{name}\""),
        Ok(name) if !name.is_empty() => fail(&format!("{BEHAVIOUR}={name}: use one of {}", known.join(" "))),
        _ => {}
    }
}

/// Credentials, as the record that flash would hold; empty for a firmware without.
fn credentials() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let file = match env::var_os(CREDENTIALS) {
        Some(none) if none == "none" => return write(&[]),
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
        Ok(settings) => write(&otaru_setup::record::encode(&settings)),
        Err(error) => {
            let example = "network_credentials.example.toml shows how it should look";
            fail(&format!("{}:{}: {}; {example}", file.display(), error.line, error.what));
        }
    }
}

fn write(record: &[u8]) {
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    if let Err(error) = fs::write(Path::new(&out).join("credentials.bin"), record) {
        fail(&format!("cannot write the credentials: {error}"));
    }
}
