//! Surroundings of every page: title, navigation, visitor, notice.

use super::assets::{AssetPaths, PLACES};
use super::notice::Notice;
use super::visitor::Visitor;

/// The places one can go to from everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Devices,
    Releases,
    Rollouts,
    Audit,
    Keys,
    None,
}

/// Surroundings of a page.
#[derive(Debug)]
pub(super) struct Shell {
    /// Title of the page.
    pub(super) title: String,
    /// Section of the page.
    pub(super) section: Section,
    /// Name of the visitor; none, where nobody is logged in.
    pub(super) name: Option<String>,
    /// Role of the visitor.
    pub(super) role: String,
    pub(super) operates: bool,
    pub(super) administers: bool,
    /// Outcome of the form before.
    pub(super) notice: Option<Notice>,
    /// Events that make it worth drawing anew: kinds of events, some with an id, `device/kitchen rollout`.
    pub(super) live: String,
    /// Time of the request, in milliseconds since 1970.
    pub(super) now: i64,
    /// Number of events until then.
    pub(super) since: u64,
    pub(super) assets: &'static AssetPaths,
}

impl Shell {
    /// Around a page of this section.
    pub(super) fn new(visitor: &Visitor, section: Section, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section,
            name: Some(visitor.caller.name.clone()),
            role: visitor.caller.role.to_string(),
            operates: visitor.operates(),
            administers: visitor.administers(),
            notice: visitor.notice.clone(),
            live: String::new(),
            now: visitor.now,
            since: visitor.since,
            assets: &PLACES,
        }
    }

    /// Around a page for everybody.
    pub(super) fn bare(title: &str) -> Self {
        Self {
            title: title.into(),
            section: Section::None,
            name: None,
            role: String::new(),
            operates: false,
            administers: false,
            notice: None,
            live: String::new(),
            now: 0,
            since: 0,
            assets: &PLACES,
        }
    }

    /// The same, drawn anew when one of these happens.
    pub(super) fn live(mut self, what: impl Into<String>) -> Self {
        self.live = what.into();
        self
    }

    /// For the navigation.
    pub(super) fn current(&self, section: Section) -> &'static str {
        if self.section == section { " aria-current=\"page\"" } else { "" }
    }
}
