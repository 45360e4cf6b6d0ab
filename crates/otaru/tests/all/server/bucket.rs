//! A server whose firmware is in a bucket, by the program as it is used. The service is moto, which takes what Amazon's takes.

use std::env;
use std::path::Path;
use std::process::Command;

use otaru_testing::{Program, free_port, run, skipped};

use crate::common::{otaru, path};
use crate::server::fleet::{Fleet, phase};

const SECRET: &str = "a-secret-that-nobody-sees";

/// A service with a bucket.
pub(crate) struct Service {
    _moto: Program,
    pub(crate) port: u16,
    url: String,
}

impl Service {
    /// Starts one; skips the test loudly where there is none.
    pub(crate) fn start() -> Option<Self> {
        let Some(moto) = env::var_os("OTARU_MOTO") else {
            skipped("no moto: cargo xtask test --install, or name its moto_server in OTARU_MOTO");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(moto);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let url = format!("http://127.0.0.1:{port}");
        let service = Self { _moto: Program::server(command, port), port, url };
        // It checks no signature here, and so anybody may make a bucket.
        ureq::put(format!("{}/firmware", service.url)).send_empty().unwrap();
        Some(service)
    }

    /// Names of all objects.
    fn names(&self) -> Vec<String> {
        let list = ureq::get(format!("{}/firmware?list-type=2", self.url)).call().unwrap();
        let list = list.into_body().read_to_string().unwrap();
        let keys = list.split("<Key>").skip(1);
        keys.map(|key| key.split("</Key>").next().unwrap().to_owned()).collect()
    }
}

/// A file of credentials that only its owner can read.
pub(crate) fn credentials(dir: &Path) -> String {
    let file = path(dir, "credentials");
    std::fs::write(&file, format!("[default]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}\n"))
        .unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file
}

#[test]
fn a_fleet_updates_from_a_bucket_and_a_new_machine_goes_on_with_it() {
    let Some(service) = Service::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = credentials(dir.path());
    let at =
        ["--artifacts", "s3://firmware/otaru/eu", "--s3-endpoint", &service.url, "--s3-credentials", &file];
    let mut fleet = Fleet::start(&[&["--dev"], &at[..]].concat());
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let devices = fleet.devices(&old, 2, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    fleet.rollout(1, "the update", |rollout| phase(rollout) == "completed");
    drop(devices);
    let names = service.names();
    assert!(names.iter().all(|name| name.starts_with("otaru/eu/")) && names.len() >= 2, "{names:?}");
    assert!(!fleet.logs().contains(SECRET));

    // A backup does not hold what is in the bucket, and says so.
    let (data, backup) = (fleet.data().display().to_string(), path(dir.path(), "b.tar"));
    let refused = fleet.tries(&["backup", "--data", &data, "-o", &backup]).with_code(1);
    refused.tells("the firmware of this server is at s3://firmware/otaru/eu").tells("--database-only");
    assert!(!Path::new(&backup).exists());
    fleet.does(&["backup", "--data", &data, "-o", &backup, "--database-only"]);
    fleet.stop();
    std::fs::remove_dir_all(fleet.data()).unwrap();
    let refused = fleet.tries(&["restore", &backup, "--data", &data]).with_code(1);
    refused.tells("at s3://firmware/otaru/eu").tells("--database-only");
    fleet.does(&["restore", &backup, "--data", &data, "--database-only"]);

    // Without the bucket there would be no firmware.
    let mut command =
        otaru(&["serve", "--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0", "--data", &data]);
    command.env_remove("OTARU_ARTIFACTS");
    run(command).with_code(1).tells("is at s3://firmware/otaru/eu, and the data folder does not have it");
    fleet.begin();
    let devices = fleet.devices(&old, 1, &["--name-prefix", "late-"]);
    fleet.does(&["rollout", "create", "1", "--name", "again"]);
    fleet.rollout(2, "the update of a late device", |rollout| phase(rollout) == "completed");
    drop(devices);
}

#[test]
fn with_redirects_devices_fetch_from_the_bucket() {
    let Some(service) = Service::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = credentials(dir.path());
    let at = ["--artifacts", "s3://firmware", "--s3-endpoint", &service.url, "--s3-credentials", &file];
    let fleet = Fleet::start(&[&["--dev", "--downloads", "redirect"], &at[..]].concat());
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let devices = fleet.devices(&old, 2, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    fleet.rollout(1, "the update", |rollout| phase(rollout) == "completed");
    drop(devices);
}

#[test]
fn settings_of_a_bucket_that_do_not_go_together_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = credentials(dir.path());
    let bucket = ["--artifacts", "s3://firmware"];
    for (args, says) in [
        (&["--cache-size", "1G"][..], "--cache-size is for a bucket: --artifacts s3://BUCKET[/PREFIX]"),
        (&["--artifacts", "gs://firmware"], "s3://BUCKET[/PREFIX]"),
        (&[&bucket[..], &["--cache-size", "1M"]].concat(), "at least 256 MiB are needed"),
        (&bucket, "give the credentials of the bucket by --s3-credentials"),
        (
            &[&bucket[..], &["--s3-credentials", &file, "--s3-endpoint", "http://198.51.100.1"]].concat(),
            "use https://, or --s3-allow-http",
        ),
        (
            &[&bucket[..], &["--s3-credentials", &file, "--s3-endpoint", "https://a:b@minio.lan"]].concat(),
            "without a name or a password in it",
        ),
    ] {
        let mut command = otaru(&["serve", "--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
        command.arg("--data").arg(dir.path().join("data")).args(args);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        let ended = run(command);
        assert!(matches!(ended.code, Some(1 | 2)), "{}", ended.err);
        ended.tells(says);
    }
}
