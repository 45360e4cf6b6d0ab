//! Values as PostgreSQL sends and takes them. Which type a parameter has, it finds out from the statement.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::db::error::DbError;
use crate::db::value::{Row, Value};

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *ty == Type::BOOL => (*number != 0).to_sql(ty, out),
            Self::Integer(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Integer(number) if *ty == Type::INT8 => number.to_sql(ty, out),
            // PostgreSQL's text has no NUL.
            Self::Text(text) if *ty == Type::TEXT && text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(ty, out)
            }
            Self::Text(text) if *ty == Type::TEXT => text.to_sql(ty, out),
            Self::Blob(bytes) if *ty == Type::BYTEA => bytes.to_sql(ty, out),
            other => Err(format!("{other:?} is no value for a parameter of type {ty}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Reads a row.
pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row, DbError> {
    (0..row.len()).map(|column| value(row, column)).collect::<Result<_, _>>().map(Row)
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, DbError> {
    let ty = row.columns().get(column).map_or(&Type::UNKNOWN, tokio_postgres::Column::type_);
    let value = match *ty {
        Type::BOOL => {
            row.try_get::<_, Option<bool>>(column).map(|flag| flag.map(|flag| i64::from(flag).into()))
        }
        Type::INT4 => row.try_get::<_, Option<i32>>(column).map(|number| number.map(Value::from)),
        Type::INT8 => row.try_get::<_, Option<i64>>(column).map(|number| number.map(Value::from)),
        Type::TEXT => row.try_get::<_, Option<String>>(column).map(|text| text.map(Value::Text)),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map(|bytes| bytes.map(Value::Blob)),
        ref other => return Err(DbError::corrupt("a column", format!("its type is {other}"))),
    };
    Ok(value?.unwrap_or(Value::Null))
}
