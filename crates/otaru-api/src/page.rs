//! Lists in pages: each ends with a cursor where the next begins, so that nothing is left out or told twice while things come
//! and go.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// Items on the page.
    pub items: Vec<T>,
    /// Start of the next page; `null` on the last.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub next: Option<Cursor>,
    /// Number of items on all pages, where that is known. Of a large fleet it may be as it was a few minutes ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A place in a list. Only the server that made it can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Makes the place after the item with this key.
    pub fn of(key: &impl Serialize) -> Self {
        Self(hex::encode(serde_json::to_vec(key).unwrap_or_default()))
    }

    /// Returns the key that a server made it of; `None` when it is none of this kind.
    pub fn key<K: DeserializeOwned>(text: &str) -> Option<K> {
        serde_json::from_slice(&hex::decode(text).ok()?).ok()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` items of which one more was asked for; `cursor` gives the place after an item.
    pub fn cut(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next, total: None }
    }

    /// Adds the number of items on all pages.
    #[must_use]
    pub fn with_total(mut self, total: u64) -> Self {
        self.total = Some(total);
        self
    }

    /// Changes each item.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next, total: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back() {
        let cursor = Cursor::of(&("lämp", 17));
        assert_eq!(Cursor::key(&cursor.to_string()), Some(("lämp".to_owned(), 17)));
        for bad in ["x", "zz", "00", "ä", "22"] {
            assert_eq!(Cursor::key::<(String, i64)>(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page::cut(vec![1, 2, 3], 2, Cursor::of);
        assert_eq!((page.items, page.next), (vec![1, 2], Some(Cursor::of(&2))));
        assert_eq!(Page::cut(vec![1, 2], 2, Cursor::of).next, None);
    }
}
