//! Backups, and folders that are in use.

use otaru_testing::run;

use crate::server::fleet::{Fleet, database};

#[test]
fn a_backup_of_a_running_server_is_whole() {
    let mut fleet = Fleet::start(&["--dev"]);
    let (old, new) = (fleet.firmware("1.0.0", "healthy"), fleet.firmware("1.1.0", "healthy"));
    let devices = fleet.devices(&old, 3, &[]);
    fleet.does(&["release", "upload", &new, "--rollout"]);
    drop(devices);
    let (data, file) =
        (fleet.data().display().to_string(), fleet.dir.path().join("b.tar").display().to_string());
    fleet.does(&["backup", "--data", &data, "-o", &file]);
    fleet.tries(&["backup", "--data", &data, "-o", &file]).with_code(1).tells("is there already");
    fleet.tries(&["restore", &file, "--data", &data]).with_code(1).tells("another server uses");
    fleet.stop();
    fleet.tries(&["restore", &file, "--data", &data]).with_code(1).tells("holds a server's data already");

    let other = fleet.dir.path().join("other");
    fleet.does(&["restore", &file, "--data", &other.display().to_string()]);
    std::fs::remove_dir_all(fleet.data()).unwrap();
    std::fs::rename(&other, fleet.data()).unwrap();
    fleet.begin();
    // Tokens, devices, releases and rollouts are as they were; so are the files.
    assert_eq!(fleet.asks(&["devices"]).len(), 3);
    let rollout = &fleet.asks(&["rollout", "show", "1"])[0];
    assert_eq!(rollout["phase"], "completed");
    let again = fleet.firmware("1.0.1", "healthy");
    fleet.does(&["release", "upload", &again]);
}

#[test]
fn what_is_no_backup_restores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("x.tar"), dir.path().join("data"));
    std::fs::write(&file, vec![7; 4096]).unwrap();
    let mut command = crate::common::otaru(&["restore", file.to_str().unwrap()]);
    command.arg("--data").arg(&data);
    run(command).with_code(1);
    assert!(!data.join("otaru.db").exists());
}

#[test]
fn two_servers_on_one_folder_are_one_too_many() {
    let fleet = Fleet::start(&["--dev"]);
    let mut command =
        crate::common::otaru(&["serve", "--http", "127.0.0.1:0", "--mqtt-listen", "127.0.0.1:0"]);
    command.arg("--data").arg(fleet.data());
    run(command).with_code(1).tells("another server uses");
    let alive: i64 =
        database(&fleet.data()).query_row("SELECT count(*) FROM tokens", [], |row| row.get(0)).unwrap();
    assert_eq!(alive, 1, "the first one was not touched");
    fleet.does(&["devices"]);
}
