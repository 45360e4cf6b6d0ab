//! Keys and releases: made, looked into, verified, signed anew; and never half written.

use std::path::Path;
use std::process::Command;

use otaru_format::release::MAX_SEQUENCE;
use otaru_testing::{Ended, run};

use crate::common::{firmware, otaru, path};

/// Runs a command line with its paths below a folder.
fn otaru_in(dir: &Path, args: &[&str]) -> Ended {
    let mut command = otaru(args);
    command.current_dir(dir).env_remove("OTARU_KEY");
    run(command)
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.out).unwrap()
}

/// A folder with a key and an image.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    otaru_in(dir.path(), &["keygen", "-o", "k.pem"]).with_code(0);
    firmware(dir.path(), "1.2.3", "healthy");
    dir
}

/// The image's name in a [`workplace`].
fn image(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut images = entries.filter(|path| path.extension().is_some_and(|ext| ext == "bin"));
    images.next().unwrap().display().to_string()
}

#[test]
fn from_a_key_to_a_verified_release() {
    let dir = workplace();
    let dir = dir.path();
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../otaru-format/tests/vectors/image.bin");
    let made = otaru_in(dir, &["release", image, "--key", "k.pem", "--sequence", "7", "-o", "a.otaru"]);
    for text in ["lamp", "esp32c3", "1.2.3", "lzma", "raw", "100.0 %"] {
        assert!(made.out.contains(text), "{text} in {}", made.out);
    }
    made.with_code(0);
    let verified = otaru_in(dir, &["verify", "a.otaru", "--key", "k.pub.pem"]).with_code(0);
    assert!(verified.out.starts_with("good: lamp 1.2.3 for esp32c3, sequence 7, signed by "));
    let inspected = json(&otaru_in(dir, &["inspect", "--json", "a.otaru"]).with_code(0));
    assert_eq!((&inspected["sequence"], &inspected["signed"]), (&7.into(), &true.into()));
    let digest = otaru_format::digest::Digest::of(&std::fs::read(image).unwrap()).to_string();
    assert_eq!(inspected["image"], digest.as_str());
    assert_eq!(inspected["payloads"][0]["kind"], "lzma");
    otaru_in(dir, &["image", "info", "a.otaru"]).with_code(1).tells("otaru inspect");
    otaru_in(dir, &["inspect", image]).with_code(1).tells("otaru release");
}

#[test]
fn without_a_key_it_says_so_loudly() {
    let dir = workplace();
    let dir = dir.path();
    otaru_in(dir, &["release", &image(dir), "-o", "a.otaru"]).with_code(0).tells("NOT SIGNED");
    let sequence = json(&otaru_in(dir, &["inspect", "--json", "a.otaru"]))["sequence"].as_u64();
    // The time, which is past 2025.
    assert!(sequence > Some(1_735_689_600), "{sequence:?}");
    otaru_in(dir, &["verify", "a.otaru", "--key", "k.pub.pem"]).with_code(1).tells("not signed");
    otaru_in(dir, &["verify", "a.otaru", "--contents-only"]).with_code(0);
    otaru_in(dir, &["verify", "a.otaru"]).with_code(2).tells("--key");
    otaru_in(dir, &["resign", "a.otaru", "--key", "k.pem", "-o", "b.otaru"]).with_code(0);
    otaru_in(dir, &["verify", "b.otaru", "--key", "k.pub.pem"]).with_code(0);
}

/// One notion of what the file is: the same padded file, and the same signature block, by every command that takes one.
#[test]
fn every_command_cuts_and_keeps_the_same_of_a_file() {
    let dir = workplace();
    let dir = dir.path();
    let old = image(dir);
    let mut padded = std::fs::read(&old).unwrap();
    let len = padded.len();
    padded.resize(len + 100_000, 0xFF);
    let mut signed = padded[..len].to_vec();
    signed.resize(len.next_multiple_of(4096), 0xFF);
    signed.extend([0xE7, 0x02]);
    signed.resize(len.next_multiple_of(4096) + 4096, 0x5A);
    std::fs::write(dir.join("padded.img"), &padded).unwrap();
    std::fs::write(dir.join("signed.img"), &signed).unwrap();
    let cut = "100000 bytes behind the image are no part of it and were left out";
    let block = "signature block of secure boot behind the image is kept";
    let info = |file: &str| json(&otaru_in(dir, &["image", "info", "--json", file]).with_code(0));
    assert_eq!(
        (info("padded.img")["trailing"].as_u64(), info("padded.img")["size"].as_u64()),
        (Some(100_000), Some(len as u64))
    );
    assert_eq!(info("signed.img")["signature_block"], true);
    otaru_in(dir, &["release", "padded.img", "-o", "a.otaru"]).with_code(0).tells(cut);
    otaru_in(dir, &["release", "signed.img", "-o", "b.otaru"]).with_code(0).tells(block);
    let inspect = |file: &str| json(&otaru_in(dir, &["inspect", "--json", file]).with_code(0));
    assert_eq!(inspect("a.otaru")["size"].as_u64(), Some(len as u64));
    assert_eq!(inspect("b.otaru")["size"].as_u64(), Some(signed.len() as u64));
    assert_eq!(inspect("a.otaru")["image"], inspect("b.otaru")["image"], "one image");
    // A base is what devices have on flash.
    let new = firmware(dir, "1.3.0", "healthy");
    let new = new.to_str().unwrap();
    otaru_in(dir, &["release", new, "--base", "padded.img", "-o", "c.otaru"]).with_code(0);
    let made = inspect("c.otaru");
    let bases = made["payloads"].as_array().unwrap().iter().map(|payload| &payload["base"]);
    assert!(bases.into_iter().any(|base| *base == info("padded.img")["sha256"]), "{made}");
    otaru_in(dir, &["delta", "padded.img", new, "-o", "a.patch"]).with_code(0).tells(cut);
    otaru_in(dir, &["delta", "apply", &old, "a.patch", "-o", "made.img"]).with_code(0);
    assert!(std::fs::read(dir.join("made.img")).unwrap() == std::fs::read(new).unwrap());
}

#[test]
fn a_release_is_called_as_it_is_asked_for() {
    let dir = workplace();
    let dir = dir.path();
    otaru_in(
        dir,
        &[
            "image",
            "make",
            "--chip",
            "esp32c3",
            "--project",
            "arduino-lib-builder",
            "--version",
            "esp-idf: v4.4.3 6407ecb3f8",
            "-o",
            "w.img",
        ],
    )
    .with_code(0)
    .tells("framework");
    otaru_in(dir, &["release", "w.img", "-o", "w.otaru"]).with_code(0).tells("framework");
    let named =
        &["release", "w.img", "--product", "wled", "--version", "0.14.4", "--key", "k.pem", "-o", "w.otaru"];
    let made = otaru_in(dir, named).with_code(0).tells("Config::product");
    assert!(!made.err.contains("framework"), "{}", made.err);
    otaru_in(dir, &["verify", "w.otaru", "--key", "k.pub.pem"]).with_code(0);
    let inspected = json(&otaru_in(dir, &["inspect", "--json", "w.otaru"]).with_code(0));
    assert_eq!((&inspected["product"], &inspected["version"]), (&"wled".into(), &"0.14.4".into()));
    let least = &["release", "w.img", "--min-base", "0.14.3", "-o", "v.otaru"];
    otaru_in(dir, least).with_code(0).tells("base_too_old");
}

#[test]
fn a_key_is_rotated() {
    let dir = workplace();
    let dir = dir.path();
    let id = json(&otaru_in(dir, &["keygen", "--json", "-o", "new.pem"]).with_code(0))["key_id"].to_string();
    let id = id.trim_matches('"');
    otaru_in(dir, &["release", &image(dir), "--key", "k.pem", "-o", "a.otaru"]).with_code(0);
    let resign = |old: &str| {
        otaru_in(dir, &["resign", "a.otaru", "--old-key", old, "--key", "new.pem", "-o", "b.otaru"])
    };
    resign("new.pub.pem").with_code(1).tells("none of the keys given");
    assert!(!dir.join("b.otaru").exists());
    resign("k.pub.pem").with_code(0);
    assert!(otaru_in(dir, &["verify", "b.otaru", "--key", "new.pub.pem"]).with_code(0).out.contains(id));
    otaru_in(dir, &["verify", "b.otaru", "--key", "k.pub.pem"]).with_code(1).tells(id);
    let mut revoking = vec!["release", "", "--key", "new.pem", "--revoke", id, "-o", "c.otaru"];
    let image = image(dir);
    revoking[1] = &image;
    otaru_in(dir, &revoking).with_code(1).tells("revokes the very key");
    assert!(!dir.join("c.otaru").exists());
}

#[test]
fn keys_are_never_overwritten_unasked() {
    let dir = workplace();
    let dir = dir.path();
    let old = std::fs::read(dir.join("k.pem")).unwrap();
    otaru_in(dir, &["keygen", "-o", "k.pem"]).with_code(1).tells("--force");
    std::fs::remove_file(dir.join("k.pub.pem")).unwrap();
    otaru_in(dir, &["keygen", "-o", "k.pem"]).with_code(1).tells("--force");
    assert_eq!(std::fs::read(dir.join("k.pem")).unwrap(), old);
    otaru_in(dir, &["keygen", "-o", "k.pem", "--force"]).with_code(0);
    assert_ne!(std::fs::read(dir.join("k.pem")).unwrap(), old);
    otaru_in(dir, &["keygen", "-o", "no/such/folder/k.pem"]).with_code(1).tells("cannot write");
}

#[test]
fn wrong_files_are_named() {
    let dir = workplace();
    let dir = dir.path();
    let image = image(dir);
    let release = |key: &str, out: &str| otaru_in(dir, &["release", &image, "--key", key, "-o", out]);
    release("k.pub.pem", "a.otaru").with_code(1).tells("signing needs the private one");
    release("none.pem", "a.otaru").with_code(1).tells("No such file");
    release("k.pem", &image).with_code(1).tells("would overwrite");
    release("k.pem", "k.pem").with_code(1).tells("would overwrite");
    release("k.pem", "no/such/a.otaru").with_code(1).tells("cannot write");
    release("k.pem", "a.otaru").with_code(0);
    otaru_in(dir, &["verify", "a.otaru", "--key", "k.pem"]).with_code(1).tells("this is a private key");
    let mut bytes = std::fs::read(dir.join("a.otaru")).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    std::fs::write(dir.join("bad.otaru"), &bytes).unwrap();
    otaru_in(dir, &["verify", "bad.otaru", "--key", "k.pub.pem"]).with_code(1).tells("of the raw payload");
    std::fs::write(dir.join("cut.otaru"), &bytes[..last]).unwrap();
    otaru_in(dir, &["inspect", "cut.otaru"]).with_code(1).tells("ends early");
    let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let left = files.iter().filter(|name| name.to_string_lossy().starts_with(".otaru-")).count();
    assert_eq!(left, 0, "{files:?}");
}

#[test]
fn an_old_release_becomes_a_newer_one() {
    let dir = workplace();
    let dir = dir.path();
    let image = image(dir);
    let sequence =
        |file: &str| json(&otaru_in(dir, &["inspect", "--json", file]))["sequence"].as_u64().unwrap();
    let resign = |more: &[&str]| {
        let mut args =
            vec!["resign", "old.otaru", "--key", "k.pem", "--old-key", "k.pub.pem", "-o", "new.otaru"];
        args.extend(more);
        otaru_in(dir, &args)
    };
    otaru_in(dir, &["release", &image, "--key", "k.pem", "-o", "old.otaru"]).with_code(0);
    let first = sequence("old.otaru");
    assert!(first > 1_600_000_000_000, "{first} is no time in milliseconds");
    resign(&["--sequence"]).with_code(0);
    assert!(sequence("new.otaru") > first);
    resign(&["--sequence", &(first + 7).to_string()]).with_code(0);
    assert_eq!(sequence("new.otaru"), first + 7);
    otaru_in(dir, &["verify", "new.otaru", "--key", "k.pub.pem"]).with_code(0);
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    let (old, new) = (read("old.otaru"), read("new.otaru"));
    let area = |bytes: &[u8]| otaru_release::file::ReleaseFile::parse(bytes).unwrap().area().to_vec();
    assert!(area(&old) == area(&new), "payloads stay as they are");
    for low in [first, first - 1] {
        resign(&["--sequence", &low.to_string()]).with_code(1).tells("is not above");
    }
    // A file numbered above any time has a next number too.
    let high = MAX_SEQUENCE - 1;
    otaru_in(dir, &["release", &image, "--key", "k.pem", "--sequence", &high.to_string(), "-o", "old.otaru"])
        .with_code(0);
    resign(&["--sequence"]).with_code(0);
    assert_eq!(sequence("new.otaru"), MAX_SEQUENCE);
    // There is an end, and it is told before anything is signed.
    let new = read("new.otaru");
    std::fs::write(dir.join("old.otaru"), &new).unwrap();
    resign(&["--sequence"]).with_code(1).tells("no sequence is higher");
    let above = (MAX_SEQUENCE + 1).to_string();
    resign(&["--sequence", &above]).with_code(2).tells("9007199254740991");
    otaru_in(dir, &["release", &image, "--key", "k.pem", "--sequence", &above, "-o", "old.otaru"])
        .with_code(2)
        .tells("9007199254740991");
    assert!(read("old.otaru") == new);
}

/// Runs openssl; `None`, and a loud word, when there is none.
fn openssl(dir: &Path, args: &[&str]) -> Option<std::process::Output> {
    match Command::new("openssl").args(args).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(_) => {
            otaru_testing::skip("openssl", "no openssl: apt-get install openssl");
            None
        }
    }
}

#[test]
fn openssl_reads_our_keys_and_we_its() {
    let dir = workplace();
    let dir = dir.path();
    let Some(public) = openssl(dir, &["pkey", "-in", "k.pem", "-pubout"]) else { return };
    assert!(public.status.success(), "{public:?}");
    assert_eq!(public.stdout, std::fs::read(dir.join("k.pub.pem")).unwrap());
    let shown = openssl(dir, &["pkey", "-pubin", "-in", "k.pub.pem", "-noout", "-text"]).unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("ED25519 Public-Key"));
    openssl(dir, &["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"]).unwrap();
    openssl(dir, &["pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub.pem"]).unwrap();
    otaru_in(dir, &["release", &image(dir), "--key", "theirs.pem", "-o", "a.otaru"]).with_code(0);
    otaru_in(dir, &["verify", "a.otaru", "--key", "theirs.pub.pem"]).with_code(0);
    openssl(dir, &["genpkey", "-algorithm", "x25519", "-out", "other.pem"]).unwrap();
    let out = path(dir, "b.otaru");
    otaru_in(dir, &["release", &image(dir), "--key", "other.pem", "-o", &out])
        .with_code(1)
        .tells("not Ed25519");
}

#[cfg(unix)]
#[test]
fn private_keys_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = workplace();
    let dir = dir.path();
    let key = dir.join("k.pem");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let made = otaru_in(dir, &["release", &image(dir), "--key", "k.pem", "-o", "a.otaru"]);
    made.with_code(0).tells("chmod 600");
}

#[test]
fn it_says_whether_a_patch_was_tried() {
    let dir = workplace();
    let dir = dir.path();
    for version in ["1.0.0", "1.1.0"] {
        let file = format!("lamp-{version}.bin");
        let make =
            ["image", "make", "--chip", "esp32c3", "--project", "lamp", "--version", version, "-o", &file];
        otaru_in(dir, &make).with_code(0);
    }
    let bases = ["--base", "lamp-1.0.0.bin"];
    let release = ["release", "lamp-1.1.0.bin", "--key", "k.pem", "-o", "new.otaru"];
    otaru_in(dir, &[&release[..], &bases].concat()).with_code(0);
    let verify = ["verify", "new.otaru", "--key", "k.pub.pem"];
    let tried = otaru_in(dir, &[&verify[..], &bases].concat()).with_code(0);
    assert!(tried.out.contains("1 patch tried") && !tried.err.contains("not tried"), "{}", tried.out);
    let untried = otaru_in(dir, &verify).with_code(0);
    assert!(untried.err.contains("1 patch was not tried"), "{}", untried.err);
    assert!(!untried.out.contains("tried"), "{}", untried.out);
}
