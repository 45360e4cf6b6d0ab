//! Tokens made in the database itself: the way back for whoever lost the last one.
//!
//! Whoever can write to the data folder, or log in to PostgreSQL, can change everything there, so this gives nobody more than they have. A
//! folder's lock keeps it from a server that runs; over PostgreSQL servers may run. The audit log says that a token was made so.

use std::path::{Path, PathBuf};

use otaru_api::{NewToken, Token};
use otaru_rollout::Time;
use serde_json::json;

use super::audit;
use super::tokens::{self, NewTokenError};
use crate::clock::Clock;
use crate::data_dir::{DataDir, DataDirError, DatabaseAt, IN_POSTGRES, database_at};
use crate::db::{self, Connection, DbError, Location, PostgresSettings};
use otaru_broker::client::Secret;

/// Actor in the audit log.
const ACTOR: &str = "offline";

/// Why no token is made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// There is no server's data.
    #[error("{} holds no server's data; --data names the folder that `otaru serve` uses", .0.display())]
    NoData(PathBuf),
    /// The fleet is not in the folder.
    #[error("the server of {} {IN_POSTGRES}: name the database with --database URL; its servers may run", .0.display())]
    Elsewhere(PathBuf),
    /// A server runs.
    #[error(
        "the server that uses {} is running: log in and make the token without --data, or stop the server first",
        .0.display()
    )]
    Running(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(DataDirError),
    /// The database cannot be used.
    #[error("no token was made: {0}")]
    Database(DbError),
    /// There can be no such token.
    #[error("{0}")]
    Refused(String),
}

/// A token that was made, and the folder's lock: as long as this lives, no server can start there.
#[derive(Debug)]
pub struct Made {
    /// The token.
    pub token: Token,
    /// The token itself, to be shown once.
    pub text: Secret,
    connection: Connection,
    _data: Option<DataDir>,
}

/// Makes a token in the data folder of a server that is stopped.
///
/// # Errors
/// When there is no server's data, a server runs, or there can be no such token.
pub fn create(data: &Path, new: NewToken) -> Result<Made, OfflineError> {
    // Opening a folder would make one.
    match database_at(data) {
        DatabaseAt::File => {}
        DatabaseAt::Postgres => return Err(OfflineError::Elsewhere(data.to_owned())),
        DatabaseAt::Nowhere => return Err(OfflineError::NoData(data.to_owned())),
    }
    let data = DataDir::open(data).map_err(|error| match error {
        DataDirError::InUse(path) => OfflineError::Running(path),
        other => OfflineError::DataDir(other),
    })?;
    let location = Location::File(data.database());
    insert(&location, Some(data), new)
}

/// Makes a token in a database of PostgreSQL's, whether its servers run or not. Blocks.
///
/// # Errors
/// When the database cannot be reached, has no fleet of this version, or there can be no such token.
pub fn create_in(database: &PostgresSettings, new: NewToken) -> Result<Made, OfflineError> {
    insert(&Location::Postgres(Box::new(database.clone())), None, new)
}

fn insert(location: &Location, data: Option<DataDir>, new: NewToken) -> Result<Made, OfflineError> {
    let connection = db::open_as_it_is(location).map_err(OfflineError::Database)?;
    let now = Clock::system().now();
    let made = write(&connection, |tx| {
        let (token, text) = tokens::create(tx, new, ACTOR, now)?;
        let detail = json!({"name": token.name, "role": token.role, "offline": true});
        audit::note_as(tx, ACTOR, "token.create", &format!("token/{}", token.id), &detail, now)?;
        Ok((token, text))
    });
    let (token, text) = made?;
    Ok(Made { token, text: Secret::new(text), connection, _data: data })
}

impl Made {
    /// Ends the token again, because it could not be shown.
    pub fn take_back(self) -> Result<(), OfflineError> {
        let now: Time = Clock::system().now();
        write(&self.connection, |tx| {
            tokens::revoke(tx, &self.token.id, now)?;
            let detail = json!({"offline": true, "never_shown": true});
            audit::note_as(tx, ACTOR, "token.revoke", &format!("token/{}", self.token.id), &detail, now)?;
            Ok(())
        })
    }
}

fn write<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, NewTokenError>,
) -> Result<T, OfflineError> {
    connection.transaction(work).map_err(|error| match error {
        NewTokenError::Db(error) => OfflineError::Database(error),
        other => OfflineError::Refused(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::database_in;
    use crate::db::Db;
    use otaru_api::Role;

    fn new() -> NewToken {
        NewToken {
            name: "way back".into(),
            role: Role::Admin,
            expires_at: otaru_api::Timestamp::from_millis(9_999_999_999_999),
        }
    }

    #[test]
    fn a_token_is_made_while_the_server_is_stopped_and_the_audit_log_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        assert!(matches!(create(&path, new()), Err(OfflineError::NoData(_))));
        assert!(!path.exists(), "nothing is made for a name that is misspelt");
        let data = DataDir::open(&path).unwrap();
        drop(Db::open(&data.database()).unwrap());
        assert!(matches!(create(&path, new()), Err(OfflineError::Running(_))));
        drop(data);
        let made = create(&path, new()).unwrap();
        assert!(matches!(create(&path, new()), Err(OfflineError::Running(_))), "until it was shown");
        assert_eq!((made.token.role.known(), made.token.expires_at), (Some(Role::Admin), new().expires_at));
        let id = made.token.id.clone();
        drop(made);
        let connection = Connection::open(database_in(&path)).unwrap();
        let entry: (String, String, String) = connection
            .query_row("SELECT actor, object, detail FROM audit", (), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((entry.0.as_str(), entry.1), ("offline", format!("token/{id}")));
        assert!(entry.2.contains("\"offline\":true") && entry.2.contains("admin"), "{}", entry.2);
        let bad = NewToken { name: " ".into(), ..new() };
        assert!(matches!(create(&path, bad), Err(OfflineError::Refused(why)) if why.contains("1 to 100")));
    }

    #[test]
    fn where_the_fleet_is_in_postgresql_the_folder_is_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.make_database().unwrap();
        drop(data);
        let refused = || matches!(create(dir.path(), new()), Err(OfflineError::Elsewhere(_)));
        assert!(refused(), "a file without a fleet");
        drop(Db::open(&database_in(dir.path())).unwrap());
        assert!(!refused());
        DataDir::open(dir.path()).unwrap().note_server("id").unwrap();
        assert!(refused(), "a file of the time before");
    }

    #[test]
    fn over_postgresql_one_is_made_while_servers_run() {
        let Some(server) = otaru_testing::postgres::Postgres::start() else { return };
        let url = server.create("fleet");
        let settings = PostgresSettings::parse(&url, otaru_tls::Trust::default()).unwrap();
        let empty = create_in(&settings, new()).unwrap_err().to_string();
        assert!(
            empty.contains("there is no fleet in this database"),
            "nothing is made in a database without a fleet: {empty}"
        );
        let _running = Db::open(Location::Postgres(Box::new(settings.clone()))).unwrap();
        let made = create_in(&settings, new()).unwrap();
        let live = || {
            let sql = "SELECT count(*) FROM tokens WHERE revoked_at IS NULL";
            otaru_testing::postgres::psql(&url, sql).unwrap()
        };
        assert_eq!(live(), "1");
        made.take_back().unwrap();
        assert_eq!(live(), "0");
    }

    #[test]
    fn one_that_cannot_be_shown_is_good_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        drop(Db::open(&data.database()).unwrap());
        drop(data);
        create(dir.path(), new()).unwrap().take_back().unwrap();
        let connection = Connection::open(database_in(dir.path())).unwrap();
        assert!(!tokens::any_admin(&connection, Clock::system().now()).unwrap());
    }

    #[test]
    fn a_database_of_another_version_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        drop(Db::open(&data.database()).unwrap());
        drop(data);
        for version in [1, 1_000] {
            let connection = Connection::open(database_in(dir.path())).unwrap();
            connection.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
            let error = create(dir.path(), new()).unwrap_err().to_string();
            assert!(error.contains(&format!("schema {version}")), "{error}");
            let is: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
            assert_eq!(is, version);
        }
    }
}
