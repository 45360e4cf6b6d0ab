//! Lists in pages: each ends with a cursor where the next begins, so that nothing is left out or told twice while things come
//! and go.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Items a page has when nobody says.
const USUAL: u32 = 100;
/// The most it may have.
pub const MOST: u32 = 1_000;

/// A page of a list.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next begins; `null` on the last.
    #[schema(value_type = Option<String>)]
    pub next: Option<Cursor>,
    /// How many there are on all pages, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A place in a list; what it says is for this server only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Cursor {
    /// A place after the item with this key.
    pub fn of(key: &impl Serialize) -> Self {
        let json = serde_json::to_vec(key).unwrap_or_default();
        Self(json.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Which page is wanted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The most items on it: 1 to 1000, 100 if not given
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Where it begins: `next` of the page before it
    #[param(max_length = 2048)]
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The most items on it.
    ///
    /// # Errors
    /// When it is none, or too many.
    pub fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            _ => Err(Problem::invalid(format!("`limit` is a number from 1 to {MOST}"))),
        }
    }

    /// The key of the item before it.
    ///
    /// # Errors
    /// When the cursor is none of ours.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let key = bytes(text).and_then(|json| serde_json::from_slice(&json).ok());
        key.map(Some).ok_or_else(|| Problem::invalid("`cursor` is not what an earlier page had as `next`"))
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pairs = digits.len().is_multiple_of(2).then(|| digits.chunks(2))?;
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl<T> Page<T> {
    /// A page of items of which one more was asked for than it may have.
    pub fn cut(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next, total: None }
    }

    /// The same with how many there are on all pages.
    #[must_use]
    pub fn with_total(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// The same with other items.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next, total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back() {
        let Cursor(text) = Cursor::of(&("lämp", 17));
        let wanted = PageQuery { limit: None, cursor: Some(text) };
        assert_eq!(wanted.after::<(String, i64)>().unwrap(), Some(("lämp".into(), 17)));
        for bad in ["x", "zz", "00", "ä", "22"] {
            let wanted = PageQuery { limit: None, cursor: Some(bad.into()) };
            assert!(wanted.after::<(String, i64)>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page::cut(vec![1, 2, 3], 2, Cursor::of);
        assert_eq!((page.items, page.next), (vec![1, 2], Some(Cursor::of(&2))));
        assert_eq!(Page::cut(vec![1, 2], 2, Cursor::of).next, None);
    }
}
