//! The database that a fleet moves into: empty before, and with all that belongs to the rows after.

use std::collections::{BTreeMap, BTreeSet};

use super::error::MigrateError;
use super::tables::Table;
use crate::db::{self, Connection, DbError, OptionalExtension as _, PostgresSettings};

/// Tables that only a database of several writers needs: a file of SQLite's has none of them.
pub(super) const OF_SEVERAL_SERVERS: [&str; 4] = ["commits", "leases", "notices", "servers"];

/// Table with the number of the schema.
const SCHEMA: &str = "otaru_schema";

/// Tables of the database, without those of extensions, which many hosts put into each.
const TABLES: &str =
    "pg_class c WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// Columns of these tables.
const COLUMNS: &str = "pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE attnum > 0 AND NOT attisdropped AND relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// The transaction is that of a person, not of a server that others wait for: it may stand still while the file is read.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10min'";

/// The database, within the transaction of the move.
pub(super) struct Target {
    pub(super) connection: Connection,
}

impl Target {
    /// Logs in, and begins the transaction; fails unless the database is empty.
    pub(super) fn open(to: &PostgresSettings) -> Result<Self, MigrateError> {
        let connection = db::log_in(to).map_err(MigrateError::Target)?;
        connection.execute_batch(BEGIN).map_err(MigrateError::Target)?;
        // A server that starts now waits, and finds the fleet.
        db::lock_schema(&connection).map_err(MigrateError::Target)?;
        match contents(&connection).map_err(MigrateError::Target)? {
            None => Ok(Self { connection }),
            Some(has) => Err(MigrateError::NotEmpty { to: to.to_string(), has }),
        }
    }

    pub(super) fn make_tables(&self) -> Result<(), MigrateError> {
        db::make_tables(&self.connection).map_err(MigrateError::Target)
    }

    /// Fails unless it has the tables and columns of the file, and no others but those of several servers.
    pub(super) fn has(&self, tables: &[Table]) -> Result<(), MigrateError> {
        let mut there = self.columns().map_err(MigrateError::Target)?;
        for table in tables {
            let columns: BTreeSet<String> = table.columns.iter().cloned().collect();
            match there.remove(&table.name) {
                Some(those) if those == columns => {}
                Some(those) => {
                    let unlike: Vec<_> = those.symmetric_difference(&columns).cloned().collect();
                    let (name, unlike) = (&table.name, unlike.join(", "));
                    return Err(MigrateError::Unlike(format!("only one side has in {name}: {unlike}")));
                }
                None => return Err(MigrateError::Unlike(format!("there is no table {}", table.name))),
            }
        }
        let is_known = |name: &&String| OF_SEVERAL_SERVERS.contains(&name.as_str()) || *name == SCHEMA;
        match there.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => Err(MigrateError::Unlike(format!("the file has no table {name}"))),
        }
    }

    fn columns(&self) -> Result<BTreeMap<String, BTreeSet<String>>, DbError> {
        let sql = format!("SELECT relname::text, attname::text FROM {COLUMNS}");
        let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        self.connection.prepare(&sql).for_each((), |row| {
            tables.entry(row.get(0)?).or_default().insert(row.get(1)?);
            Ok(())
        })?;
        Ok(tables)
    }

    /// Takes away the rows that new tables have. Nothing is counted by triggers until [`settle`](Self::settle): what they count comes
    /// along.
    pub(super) fn clear(&self, tables: &[Table]) -> Result<(), MigrateError> {
        for table in tables {
            let name = table.quoted();
            self.run(&format!("DELETE FROM {name}; ALTER TABLE {name} DISABLE TRIGGER USER"))?;
        }
        Ok(())
    }

    /// Has triggers count again, and numbers go on above all that were ever given.
    pub(super) fn settle(&self, source: &Connection, tables: &[Table]) -> Result<(), MigrateError> {
        for table in tables {
            let name = table.quoted();
            self.run(&format!("ALTER TABLE {name} ENABLE TRIGGER USER; ANALYZE {name}"))?;
        }
        for (table, column) in self.numbered().map_err(MigrateError::Target)? {
            let Some(table) = tables.iter().find(|known| known.name == table) else { continue };
            if let Some(last) = last_number(source, table, &column).map_err(MigrateError::Source)? {
                let sequence = "pg_get_serial_sequence(?::text, ?::text)::regclass";
                let sql = format!("SELECT setval({sequence}, ?::bigint)");
                let values = db::params![table.quoted(), column, last];
                self.connection.query_row(&sql, values, |_| Ok(())).map_err(MigrateError::Target)?;
            }
        }
        Ok(())
    }

    /// Returns the columns that are numbered by the database, with their tables.
    fn numbered(&self) -> Result<Vec<(String, String)>, DbError> {
        let sql = format!("SELECT relname::text, attname::text FROM {COLUMNS} AND attidentity <> ''");
        let rows = self.connection.prepare(&sql);
        rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    pub(super) fn commit(self) -> Result<(), MigrateError> {
        self.connection.execute_batch("COMMIT").map_err(|error| match error {
            error @ DbError::Unavailable(_) => MigrateError::Unknown(error),
            other => MigrateError::Target(other),
        })
    }

    fn run(&self, sql: &str) -> Result<(), MigrateError> {
        self.connection.execute_batch(sql).map_err(MigrateError::Target)
    }
}

/// Returns the highest number that a table has, or had: of rows that are gone SQLite remembers it.
fn last_number(source: &Connection, table: &Table, column: &str) -> Result<Option<i64>, DbError> {
    let sql = format!("SELECT max(\"{column}\") FROM {}", table.quoted());
    let there: Option<i64> = source.query_row(&sql, (), |row| row.get(0))?;
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?";
    let given = source.query_row(sql, [&table.name], |row| row.get::<i64>(0)).optional()?;
    // A sequence has no number below 1.
    Ok(there.max(given).filter(|number| *number > 0))
}

/// Returns what is in a database, if anything is.
fn contents(connection: &Connection) -> Result<Option<String>, DbError> {
    let sql =
        format!("SELECT relname::text FROM {TABLES} ORDER BY relname = 'otaru_schema' DESC, relname LIMIT 1");
    let first: Option<String> = connection.query_row(&sql, (), |row| row.get(0)).optional()?;
    Ok(match first.as_deref() {
        None => None,
        Some(SCHEMA) => Some(match db::is_present(connection) {
            Ok(()) => "a fleet of Otaru's".to_owned(),
            Err(DbError::Older(version)) => {
                format!("a fleet of an older version of Otaru (schema {version})")
            }
            Err(DbError::NoFleet(_)) => "tables of Otaru's, without a fleet".to_owned(),
            Err(DbError::Newer(version)) => format!("a fleet of a newer version of Otaru (schema {version})"),
            Err(other) => return Err(other),
        }),
        Some(other) => Some(format!("the table {other:?}")),
    })
}
