//! Why a fleet cannot be moved.

use std::path::PathBuf;

use crate::data_dir::DataDirError;
use crate::db::DbError;

/// Why a fleet is not moved. Neither database has changed then.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is no fleet.
    #[error(
        "{} holds no fleet; --from names the folder that `otaru serve` used as --data, or a file of SQLite's",
        .0.display()
    )]
    NoFleet(PathBuf),
    /// The fleet is in PostgreSQL already.
    #[error(
        "the database in {} is empty: its server keeps the fleet in PostgreSQL already, or the file was cut off; use a backup then",
        .0.display()
    )]
    Elsewhere(PathBuf),
    /// A server runs.
    #[error("the server that uses {} is running; stop it first, so that nothing is lost", .0.display())]
    Running(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    DataDir(DataDirError),
    /// The file cannot be read.
    #[error("the fleet cannot be read: {0}")]
    Source(DbError),
    /// The file contradicts itself.
    #[error(
        "the file is damaged ({0}): it may be a copy that was made while a server was at it, or without the log `…-wal` beside it; copy both, \
         or use a backup"
    )]
    Damaged(String),
    /// PostgreSQL did not do what it was asked.
    #[error("nothing was moved: {0}")]
    Target(DbError),
    /// A row could not be read here or written there.
    #[error("nothing was moved: {0}")]
    Copy(DbError),
    /// Nobody knows whether the end took place.
    #[error(
        "whether the fleet was moved is not known: {0}; run it again: a database that has the fleet is refused as not empty"
    )]
    Unknown(DbError),
    /// There is something in the database.
    #[error(
        "{to} is not empty, it has {has}: a fleet moves into an empty database; make one (`createdb`), or drop this one first (`dropdb`) if \
         nothing in it is needed"
    )]
    NotEmpty {
        /// The database.
        to: String,
        /// Contents.
        has: String,
    },
    /// The databases do not have the same tables.
    #[error(
        "nothing was moved: {0}; the file was changed by another program than Otaru, or this is a fault of Otaru's to report"
    )]
    Unlike(String),
    /// A key cannot be written.
    #[error(
        "nothing was moved: the column {column} of {table}, by which rows are told apart, holds a NUL, which PostgreSQL's text cannot have; \
         remove that row first"
    )]
    NulInKey {
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
    /// Something else arrived than was sent.
    #[error(
        "nothing was moved: {there} rows of {table} arrived of {sent}, or with other contents; this is a fault of Otaru's or of the database's to \
         report"
    )]
    Differs {
        /// Table.
        table: String,
        /// Rows that were sent.
        sent: u64,
        /// Rows that arrived.
        there: u64,
    },
    /// Somebody stopped it.
    #[error("stopped before the end; nothing was moved, and the database is empty")]
    Stopped,
}
