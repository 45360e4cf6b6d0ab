//! Lists in pages: each ends with a cursor where the next begins, so that nothing is left out or told twice while things come
//! and go.

use otaru_api::Cursor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Items on a page when no limit is given.
const USUAL: u32 = 100;
/// Largest limit of a page.
pub const MOST: u32 = 1_000;

/// Position and size of a page.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Largest number of items on the page: 1 to 1000, 100 if not given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Start of the page: `next` of the page before it.
    #[param(max_length = 2048)]
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Returns the largest number of items on the page.
    ///
    /// # Errors
    /// When it is none, or too many.
    pub fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            _ => Err(Problem::invalid(format!("`limit` is a number from 1 to {MOST}"))),
        }
    }

    /// Returns the key of the item before the page.
    ///
    /// # Errors
    /// When the cursor is none of ours.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(text) = &self.cursor else { return Ok(None) };
        Cursor::key(text).map(Some).ok_or_else(bad_cursor)
    }
}

/// Says that a cursor is of no list like this.
pub fn bad_cursor() -> Problem {
    Problem::invalid("`cursor` is not what an earlier page of this list had as `next`")
}
