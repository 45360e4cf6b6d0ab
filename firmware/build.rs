//! Brings credentials, version and test behaviour into the build, and esp-hal's linker script.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use otaru_setup::file::{Contents, Preset, TIME_SERVER, Tls, Updates};

const CREDENTIALS: &str = "OTARU_CREDENTIALS";
const VERSION: &str = "OTARU_VERSION";
const BEHAVIOUR: &str = "OTARU_BEHAVIOUR";
/// Moment of the build, for builds that are to be the same again.
const MOMENT: &str = "SOURCE_DATE_EPOCH";

fn main() {
    for variable in [CREDENTIALS, VERSION, BEHAVIOUR, MOMENT] {
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
    page();
    built();
}

/// TLS of the firmware.
fn preset() -> Option<Preset> {
    let features = [
        ("CARGO_FEATURE_TLS_PREBUILT", Preset::Prebuilt),
        ("CARGO_FEATURE_TLS_ANY_SERVER", Preset::AnyServer),
        ("CARGO_FEATURE_TLS", Preset::OwnServer),
    ];
    features.into_iter().find_map(|(feature, preset)| env::var_os(feature).map(|_| preset))
}

/// Writes a file that the firmware takes in.
fn put(name: &str, contents: impl AsRef<[u8]>) {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    if let Err(error) = fs::write(out.join(name), contents) {
        fail(&format!("cannot write {name}: {error}"));
    }
}

/// The set-up page, which asks for TLS, and for CAs, only where there is some.
fn page() {
    const BOX: &str = r#"<label><input name="tls" type="checkbox" style="width:auto"> over TLS, usually at port 8883</label>
"#;
    for file in ["src/setup.html", "src/setup/certificates.html"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let with_tls = |part: &str| if preset().is_some() { part.to_owned() } else { String::new() };
    let page = include_str!("src/setup.html")
        .replace("{tls}\n", &with_tls(BOX))
        .replace("{certificates}\n", &with_tls(include_str!("src/setup/certificates.html")));
    put("setup.html", page);
}

/// The moment of the build, in seconds since 1970.
fn built() {
    let given = env::var(MOMENT).ok().and_then(|moment| moment.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    put("built.rs", given.unwrap_or_else(now).to_string());
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
            let updates = Updates { keys: vec![], allow_unsigned: true, hosts: vec![] };
            return write(&Contents { settings: None, updates, tls: None });
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
        Ok(contents) => match contents.unfit(preset()) {
            Some(why) => fail(&format!("{}: {why}", file.display())),
            None => write(&contents),
        },
        Err(error) => {
            let example = "network_credentials.example.toml shows how it should look";
            fail(&format!("{}:{}: {}; {example}", file.display(), error.line, error.what));
        }
    }
}

fn write(contents: &Contents) {
    let Contents { settings, updates, tls } = contents;
    let Updates { keys, allow_unsigned, hosts } = updates;
    let hosts: String =
        hosts.iter().map(|host| format!("otaru_device::AllowedHost::new({host:?}), ")).collect();
    let keys: String = keys
        .iter()
        .map(|key| format!("otaru_device::PublicKey::from_bytes({:?}), ", key.as_bytes()))
        .collect();
    put("trust.rs", format!("({allow_unsigned}, &[{keys}], &[{hosts}])"));
    put("credentials.bin", settings.as_ref().map(otaru_setup::record::encode).unwrap_or_default());
    put("tls.rs", tls.as_ref().map_or_else(told_by_phone, tls_of));
}

/// TLS of a firmware that trusts nobody before CAs are set, as an expression: it asks for the time all the same.
fn told_by_phone() -> String {
    format!("(&[], None, {:?})", preset().map(|_| TIME_SERVER))
}

/// TLS, as an expression.
fn tls_of(tls: &Tls) -> String {
    let Tls { cas, public: _, identity, time_server } = tls;
    let cas: String = cas.iter().map(|ca| format!("&{ca:?}, ")).collect();
    let identity = identity.as_ref().map(|(certificate, key)| format!("(&{certificate:?}, &{key:?})"));
    let identity = identity.map_or_else(|| "None".to_owned(), |identity| format!("Some({identity})"));
    format!("(&[{cas}], {identity}, {time_server:?})")
}
