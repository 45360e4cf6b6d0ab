//! One number of a whole table: SHA-256 over its rows in the order of its key, the same over both databases.

use sha2::{Digest as _, Sha256};

use super::error::MigrateError;
use super::tables::Table;
use crate::db::Value;

/// Contents of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) rows: u64,
    pub(super) digest: String,
    pub(super) replaced: u64,
}

/// Digest of a table whose rows come one after another.
pub(super) struct TableDigest {
    hasher: Sha256,
    rows: u64,
    replaced: u64,
}

impl TableDigest {
    pub(super) fn new(table: &Table) -> Self {
        let mut digest = Self { hasher: Sha256::new(), rows: 0, replaced: 0 };
        digest.bytes(b'n', table.name.as_bytes());
        table.columns.iter().for_each(|column| digest.bytes(b'c', column.as_bytes()));
        digest
    }

    /// Takes a row in. Each value has its kind before it, and its length where that varies: no two rows read alike.
    pub(super) fn row(&mut self, values: &[Value]) {
        self.rows += 1;
        for value in values {
            match value {
                Value::Null => self.hasher.update(b"0"),
                Value::Integer(number) => {
                    self.hasher.update(b"i");
                    self.hasher.update(number.to_be_bytes());
                }
                Value::Text(text) => self.bytes(b't', text.as_bytes()),
                Value::Blob(bytes) => self.bytes(b'b', bytes),
            }
        }
    }

    fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.hasher.update([kind]);
        self.hasher.update((bytes.len() as u64).to_be_bytes());
        self.hasher.update(bytes);
    }

    pub(super) fn end(self) -> Contents {
        let Self { hasher, rows, replaced } = self;
        Contents { rows, digest: hex::encode(hasher.finalize()), replaced }
    }
}

/// Replaces NUL in texts, as the server does with what it writes to PostgreSQL, and counts them. In a key it would change the order of
/// rows, and may make two of them one: that is refused.
pub(super) fn plain(
    table: &Table,
    values: &mut [Value],
    digest: &mut TableDigest,
) -> Result<(), MigrateError> {
    for (column, value) in table.columns.iter().zip(values) {
        let Value::Text(text) = value else { continue };
        if !text.contains('\0') {
            continue;
        }
        if table.key.contains(column) {
            return Err(MigrateError::NulInKey { table: table.name.clone(), column: column.clone() });
        }
        *text = text.replace('\0', "\u{fffd}");
        digest.replaced += 1;
    }
    Ok(())
}
