//! Which database it is, and how connections to it are made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use otaru_tls::Trust;

use super::connection::{Connection, Dialect};
use super::error::DbError;
use super::postgres::{self, PostgresSettings, SettingsError};
use super::sqlite;

/// Which database a server keeps its state in.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file of SQLite's, on this machine.
    File(PathBuf),
    /// PostgreSQL, for one server or several.
    Postgres(Box<PostgresSettings>),
}

impl Location {
    /// Reads a path, or a URL of PostgreSQL's; `trust` says whose certificate that may show.
    ///
    /// # Errors
    /// When it begins as a URL and is none.
    pub fn parse(text: &str, trust: Trust) -> Result<Self, SettingsError> {
        match text.split_once("://") {
            Some(_) => Ok(Self::Postgres(Box::new(PostgresSettings::parse(text, trust)?))),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Location {
    fn from(path: &P) -> Self {
        Self::File(path.as_ref().to_owned())
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
pub(super) struct Engine(Arc<Location>);

impl Engine {
    pub(super) fn new(location: Location) -> Self {
        Self(Arc::new(location))
    }

    pub(super) fn dialect(&self) -> Dialect {
        match *self.0 {
            Location::File(_) => Dialect::Sqlite,
            Location::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Opens a connection.
    pub(super) fn connect(&self) -> Result<Connection, DbError> {
        match &*self.0 {
            Location::File(path) => Ok(sqlite::connect(path)?.into()),
            Location::Postgres(settings) => Ok(postgres::connect(settings)?.into()),
        }
    }

    /// Opens a connection and brings the database to the present schema.
    pub(super) fn prepare(&self) -> Result<Connection, DbError> {
        match &*self.0 {
            Location::File(path) => {
                let mut connection = sqlite::connect(path)?;
                sqlite::migrate(&mut connection)?;
                Ok(connection.into())
            }
            Location::Postgres(settings) => {
                postgres::migrate(&postgres::log_in(settings)?)?;
                Ok(postgres::connect(settings)?.into())
            }
        }
    }

    /// Opens a connection for reading only.
    pub(super) fn reader(&self) -> Result<Connection, DbError> {
        let connection = self.connect()?;
        if let Some(sqlite) = connection.sqlite() {
            sqlite.pragma_update(None, "query_only", true)?;
        }
        Ok(connection)
    }

    /// Moves what stands in a file's log into the file.
    pub(super) fn checkpoint(&self) -> Result<(), DbError> {
        match &*self.0 {
            Location::File(path) => sqlite::checkpoint(path),
            Location::Postgres(_) => Ok(()),
        }
    }

    /// Returns the statement that begins a transaction which reads from one state of the database.
    pub(super) fn begin_to_read(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}
