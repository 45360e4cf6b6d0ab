//! Values of columns and parameters, alike in both databases.
//!
//! SQLite keeps a boolean as a number and PostgreSQL does not; here it is a number, and each database gets it as the column wants it.

use otaru_api::Timestamp;
use otaru_rollout::Time;

use super::error::DbError;

/// Value of a column, or of a parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer, or a boolean as 0 or 1.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// Converts something to the value of a parameter.
pub trait ToValue {
    /// Returns the value. A number beyond the range of `i64` becomes the nearest one in it.
    fn to_value(&self) -> Value;
}

/// Converts the value of a column.
pub trait FromValue: Sized {
    /// Returns what the value stands for; fails if it is of another kind, or out of range.
    fn from_value(value: &Value) -> Result<Self, DbError>;
}

/// Returns the error for a value of another kind.
fn unlike(wanted: &str, value: &Value) -> DbError {
    DbError::Corrupt("a column", format!("{wanted} was expected and {} is there", value.kind()))
}

macro_rules! integers {
    ($($integer:ty),*) => { $(
        impl ToValue for $integer {
            fn to_value(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }

        impl FromValue for $integer {
            fn from_value(value: &Value) -> Result<Self, DbError> {
                match value {
                    Value::Integer(number) => Self::try_from(*number)
                        .map_err(|_| DbError::Corrupt("a column", format!("{number} is out of range"))),
                    other => Err(unlike("an integer", other)),
                }
            }
        }
    )* };
}

integers!(i64, i32, u64, u32, u16, u8, usize);

impl ToValue for bool {
    fn to_value(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value {
        self.as_str().to_value()
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            other => Err(unlike("text", other)),
        }
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value {
        Value::Blob(self.clone())
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        match value {
            Value::Blob(bytes) => Ok(bytes.clone()),
            other => Err(unlike("bytes", other)),
        }
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value {
        self.as_slice().to_value()
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        let Value::Blob(bytes) = value else { return Err(unlike("bytes", value)) };
        let length = bytes.len();
        bytes.as_slice().try_into().map_err(|_| {
            DbError::Corrupt("a column", format!("{N} bytes were expected and {length} are there"))
        })
    }
}

impl ToValue for Timestamp {
    fn to_value(&self) -> Value {
        Value::Integer(self.millis())
    }
}

/// Columns have milliseconds. One that holds what cannot be written is shown as the nearest moment that can be.
impl FromValue for Timestamp {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        i64::from_value(value).map(|millis| Time(u64::try_from(millis).unwrap_or(0)).into())
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self, DbError> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (*self).to_value()
    }
}

macro_rules! from {
    ($($type:ty),*) => { $(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                value.to_value()
            }
        }
    )* };
}

from!(i64, i32, u32, bool, &str, String, &String, Vec<u8>);

/// Parameters of a statement, in their order.
pub trait Params {
    /// Returns their values.
    fn values(self) -> Vec<Value>;
}

impl Params for () {
    fn values(self) -> Vec<Value> {
        Vec::new()
    }
}

impl Params for Vec<Value> {
    fn values(self) -> Vec<Value> {
        self
    }
}

impl<T: ToValue, const N: usize> Params for [T; N] {
    fn values(self) -> Vec<Value> {
        self.iter().map(ToValue::to_value).collect()
    }
}

/// Makes parameters of a statement out of values of different types, for tests and other crates.
#[macro_export]
macro_rules! statement_params {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::db::ToValue::to_value(&$value)),*] };
}

/// Makes parameters of a statement out of values of different types.
macro_rules! params {
    ($($value:expr),* $(,)?) => { ::std::vec![$($crate::db::ToValue::to_value(&$value)),*] };
}
pub(crate) use params;

/// Whether more rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// The next.
    More,
    /// No more.
    Enough,
}

/// A row of an answer.
#[derive(Debug)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    /// Returns the values of its columns.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// Returns the values of its columns, to be kept.
    pub(crate) fn into_values(self) -> Vec<Value> {
        self.0
    }

    /// Returns the column with this index, from 0.
    ///
    /// # Errors
    /// When there is no such column, or its value is of another kind.
    pub fn get<T: FromValue>(&self, column: usize) -> Result<T, DbError> {
        let value = self.0.get(column).ok_or_else(|| DbError::corrupt("an answer", "a column is missing"))?;
        T::from_value(value).map_err(|error| match error {
            DbError::Corrupt(_, why) => DbError::Corrupt("an answer", format!("column {column}: {why}")),
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: ToValue + FromValue>(value: &T) -> Result<T, DbError> {
        T::from_value(&value.to_value())
    }

    #[test]
    fn what_goes_in_comes_out() {
        assert_eq!(round(&7_u32).unwrap(), 7);
        assert!(round(&true).unwrap());
        assert_eq!(round(&"text".to_owned()).unwrap(), "text");
        assert_eq!(round(&[1_u8, 2, 3]).unwrap(), [1, 2, 3]);
        assert_eq!(round(&Some(-1_i64)).unwrap(), Some(-1));
        assert_eq!(round(&None::<String>).unwrap(), None);
        let moment = Timestamp::from_millis(1_795_922_684_123).unwrap();
        assert_eq!(round(&moment).unwrap(), moment);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(u32::from_value(&Value::Integer(-1)).is_err());
        assert!(String::from_value(&Value::Integer(1)).is_err());
        assert!(<[u8; 32]>::from_value(&Value::Blob(vec![0; 31])).is_err());
        assert!(i64::from_value(&Value::Null).is_err());
        assert_eq!(Timestamp::from_value(&Value::Integer(-1)).unwrap().millis(), 0);
    }
}
