//! A fleet with rows in every table, moved into PostgreSQL and read again there.

use std::path::{Path, PathBuf};

use otaru_testing::postgres::{Postgres, psql};
use otaru_tls::Trust;

use super::target::OF_SEVERAL_SERVERS;
use super::*;
use crate::data_dir::{DataDir, database_in};
use crate::db::Db;

static GO_ON: AtomicBool = AtomicBool::new(false);

/// Rows of every table; what is special: a NUL in a text, booleans, bytes, a retired device, and numbers that were given to rows since
/// removed.
const ROWS: &str = "
    INSERT INTO meta (key, value) VALUES ('artifacts_at', 's3://firmware');
    INSERT INTO fleet_keys (id, name, hash, created_at, created_by, max_devices) VALUES
        ('k', 'line', x'00ff', 1, 'x', 7), ('l', 'other', x'01', 1, 'x', NULL);
    INSERT INTO devices (id, label, first_seen, reachable, image, secret, fleet_key, came_with, retired_at, report, had) VALUES
        ('a', 'Küche', 1, 1, x'00', x'1122', 'k', 'k', NULL, '{}', 9223372036854775807),
        ('b', 'x' || char(0) || 'y', 1, 0, NULL, NULL, NULL, 'k', NULL, NULL, 0),
        ('Z', NULL, 1, 0, NULL, NULL, NULL, 'k', 5, NULL, -1);
    INSERT INTO device_tags (device, name, value) VALUES ('a', 'site', 'hall'), ('a', 'Floor', '');
    INSERT INTO device_events (id, device, at, kind, detail) VALUES (41, 'a', 1, 'report', '{}');
    INSERT INTO device_certificates (serial, device, first_seen, refused) VALUES ('01', 'a', 1, NULL);
    INSERT INTO artifacts (digest, size, used_at) VALUES (x'00', 1, 1), (x'ff', 2, 2);
    INSERT INTO releases (id, image, product, version, chip, image_size, raw, built, created_at, created_by) VALUES
        (3, x'aa', 'lamp', '1', 'esp32c3', 1, x'00', 1, 1, 'x'), (9, x'bb', 'lamp', '2', 'esp32c3', 1, x'ff', 0, 1, 'x');
    DELETE FROM releases WHERE id = 9;
    INSERT INTO deltas (release, base, size) VALUES (3, x'cc', NULL);
    INSERT INTO jobs (release, kind, state, created_at) VALUES (3, 'build', 'done', 1);
    INSERT INTO rollouts (id, name, release, state, phase, is_open, is_alive, created_at, created_by, updated_at)
        VALUES (17, 'r', 3, '{}', 'running', 1, 0, 1, 'x', 1);
    INSERT INTO rollout_events (id, rollout, at, event) VALUES (5, 17, 1, '{}');
    INSERT INTO deployments (rollout, device, state, standing, is_open, wave, starts, position, created_at, updated_at)
        VALUES (17, 'a', '{}', 'ready', 1, 0, 0, 0, 1, 1);
    INSERT INTO outbox (device, message, created_at, shard) VALUES ('a', '{}', 1, NULL);
    INSERT INTO tokens (id, name, role, hash, created_at, created_by) VALUES ('t', 'mine', 'admin', x'00', 1, 'x');
    INSERT INTO sessions (hash, token, created_at, used_at) VALUES (x'01', 't', 1, 1);
    INSERT INTO audit (at, actor, action, object) VALUES (1, 'x', 'y', 'z');
    INSERT INTO idempotency (actor, key, request, status, body, at) VALUES ('x', 'y', x'00', 201, '', 1);";

/// Makes a data folder with a fleet, as a server leaves it.
fn fleet(dir: &Path) -> PathBuf {
    let path = dir.join("data");
    let data = DataDir::open(&path).unwrap();
    drop(Db::open(&data.database()).unwrap());
    let connection = Connection::open(data.database()).unwrap();
    connection.execute_batch(ROWS).unwrap();
    // No connection that closes later has anything left to write.
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    path
}

fn settings(url: &str) -> PostgresSettings {
    PostgresSettings::parse(url, Trust::default()).unwrap()
}

fn quietly(from: &Path, url: &str) -> Result<Vec<Moved>, MigrateError> {
    migrate(from, &settings(url), &GO_ON, |_| {})
}

/// Returns the number of tables in a database.
fn tables_at(url: &str) -> String {
    psql(url, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").unwrap()
}

fn bytes_of(from: &Path) -> Vec<u8> {
    std::fs::read(database_in(from)).unwrap()
}

#[test]
fn every_table_comes_over_with_every_column() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, url) = (fleet(dir.path()), server.create("fleet"));
    // As a host may leave a new database.
    psql(&url, "CREATE TABLE birds (name text); ALTER EXTENSION plpgsql ADD TABLE birds").unwrap();
    let before = bytes_of(&from);
    let moved = quietly(&from, &url).unwrap();
    assert_eq!(bytes_of(&from), before, "the file is as it was");
    // A table that is new, and has no rows here, is not tested: it gets some above.
    let empty: Vec<_> = moved.iter().filter(|table| table.rows == 0).collect();
    assert!(empty.is_empty(), "{empty:?}");
    let several =
        psql(&url, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").unwrap();
    assert_eq!(
        several,
        (moved.len() + OF_SEVERAL_SERVERS.len() + ["otaru_schema", "birds"].len()).to_string()
    );
    let says = |sql: &str| psql(&url, sql).unwrap();
    assert_eq!(
        says("SELECT id, reachable, encode(secret, 'hex'), had FROM devices WHERE id = 'a'"),
        "a|t|1122|9223372036854775807"
    );
    assert_eq!(says("SELECT label FROM devices WHERE id = 'b'"), "x\u{fffd}y");
    assert_eq!(says("SELECT is_open, is_alive FROM rollouts"), "t|f");
    let replaced: Vec<_> =
        moved.iter().filter(|table| table.replaced > 0).map(|table| &*table.table).collect();
    assert_eq!(replaced, ["devices"]);
    // Each is counted once, and counted on.
    assert_eq!(says("SELECT value FROM counts"), "2");
    assert_eq!(says("SELECT living FROM fleet_keys WHERE id = 'k'"), "2");
    says("INSERT INTO devices (id, first_seen, came_with) VALUES ('n', 1, 'k')");
    assert_eq!(says("SELECT value FROM counts"), "3");
    assert_eq!(says("SELECT living FROM fleet_keys WHERE id = 'k'"), "3");
}

#[test]
fn numbers_go_on_above_all_that_were_ever_given() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = server.create("fleet");
    quietly(&fleet(dir.path()), &url).unwrap();
    let next = |sql: &str| psql(&url, sql).unwrap();
    let release = "INSERT INTO releases (image, product, version, chip, image_size, created_at, created_by)
                   VALUES ('z', 'lamp', '3', 'esp32c3', 1, 1, 'x') RETURNING id";
    assert_eq!(next(release), "10", "the ninth was removed, and another is not called so");
    let event =
        "INSERT INTO device_events (device, at, kind, detail) VALUES ('a', 1, 'report', '{}') RETURNING id";
    assert_eq!(next(event), "42");
    assert_eq!(next("INSERT INTO notices (notice) VALUES ('{}') RETURNING id"), "1");
}

#[test]
fn a_database_that_is_not_empty_is_refused() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let from = fleet(dir.path());
    let refused = |url: &str, words: &str| {
        let error = quietly(&from, url).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("createdb"), "{error}");
    };
    let url = server.create("other");
    psql(&url, "CREATE TABLE birds (name text)").unwrap();
    refused(&url, "the table \"birds\"");
    let url = server.create("fleet");
    quietly(&from, &url).unwrap();
    refused(&url, "a fleet of Otaru's");
    psql(&url, "UPDATE otaru_schema SET version = 11").unwrap();
    refused(&url, "a fleet of an older version of Otaru (schema 11)");
    psql(&url, "UPDATE otaru_schema SET version = 1000").unwrap();
    refused(&url, "a fleet of a newer version of Otaru (schema 1000)");
    assert_eq!(psql(&url, "SELECT count(*) FROM devices").unwrap(), "3", "what is there stays");
}

#[test]
fn a_file_of_another_version_and_one_without_a_fleet_are_refused() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, url) = (fleet(dir.path()), server.create("fleet"));
    // The last is what a new server's file has while all of its tables are in the log.
    for (version, words) in [(11, "schema 11"), (1_000, "schema 1000"), (0, "`-wal`")] {
        let sql = format!("PRAGMA user_version = {version}");
        Connection::open(database_in(&from)).unwrap().execute_batch(&sql).unwrap();
        let error = quietly(&from, &url).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(matches!(quietly(&dir.path().join("nowhere"), &url), Err(MigrateError::NoFleet(_))));
    let empty = dir.path().join("empty");
    let data = DataDir::open(&empty).unwrap();
    data.make_database().unwrap();
    assert!(matches!(quietly(&empty, &url), Err(MigrateError::Running(_))));
    drop(data);
    assert!(matches!(quietly(&empty, &url), Err(MigrateError::Elsewhere(_))));
    assert_eq!(tables_at(&url), "0");
}

#[test]
fn tables_and_columns_that_postgresql_lacks_are_not_forgotten() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, url) = (fleet(dir.path()), server.create("fleet"));
    let refused = |sql: &str, words: &str| {
        Connection::open(database_in(&from)).unwrap().execute_batch(sql).unwrap();
        let error = quietly(&from, &url).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(tables_at(&url), "0");
    };
    refused("ALTER TABLE jobs ADD COLUMN colour TEXT", "only one side has in jobs: colour");
    refused(
        "ALTER TABLE jobs DROP COLUMN colour; CREATE TABLE birds (id INTEGER PRIMARY KEY)",
        "there is no table birds",
    );
    refused("DROP TABLE birds; DROP TABLE jobs", "the file has no table jobs");
}

#[test]
fn one_that_is_stopped_or_meets_a_fault_leaves_the_database_empty() {
    let Some(server) = Postgres::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, url) = (fleet(dir.path()), server.create("fleet"));
    for stage in [Stage::Copy, Stage::Check] {
        let stop = AtomicBool::new(false);
        let stopped = migrate(&from, &settings(&url), &stop, |now| {
            if now.stage == stage && now.table == "artifacts" {
                stop.store(true, Ordering::Relaxed);
            }
        });
        assert!(matches!(stopped, Err(MigrateError::Stopped)), "{stopped:?}");
        assert_eq!(tables_at(&url), "0");
    }
    let connection = Connection::open(database_in(&from)).unwrap();
    connection.execute_batch("INSERT INTO meta (key, value) VALUES ('a' || char(0), '')").unwrap();
    assert!(matches!(quietly(&from, &url), Err(MigrateError::NulInKey { table, .. }) if table == "meta"));
    connection.execute_batch("DELETE FROM meta WHERE hex(key) = '6100'").unwrap();
    // Something else arrives than was sent: SQLite takes any number for a boolean.
    connection.execute_batch("UPDATE devices SET reachable = 2 WHERE id = 'a'").unwrap();
    let differs = quietly(&from, &url);
    assert!(
        matches!(&differs, Err(MigrateError::Differs { table, .. }) if table == "devices"),
        "{differs:?}"
    );
    assert_eq!(tables_at(&url), "0");
    connection.execute_batch("UPDATE devices SET reachable = 1 WHERE id = 'a'").unwrap();
    quietly(&from, &url).unwrap();
}

/// Two tables share a page, as may be in a copy that was made while a server was at it.
#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let Some(server) = Postgres::start() else { return };
    let (url, dir) = (server.create("fleet"), tempfile::tempdir().unwrap());
    let from = fleet(dir.path());
    let file = database_in(&from);
    let damage = |rootpage: &str| {
        let connection = rusqlite::Connection::open(&file).unwrap();
        let sql = format!(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = ({rootpage}) WHERE name = 'device_events'"
        );
        connection.execute_batch(&sql).unwrap();
    };
    for rootpage in ["SELECT rootpage FROM sqlite_schema WHERE name = 'device_tags'", "1000000"] {
        damage(rootpage);
        let refused = migrate(&file, &settings(&url), &GO_ON, |_| {}).unwrap_err();
        assert!(matches!(refused, MigrateError::Damaged(_)), "{refused}");
        assert!(refused.to_string().contains("copy both"), "{refused}");
    }
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(psql(&url, tables).unwrap(), "0");
}
