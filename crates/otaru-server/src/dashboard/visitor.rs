//! Visitors of pages.

use otaru_api::Role;
use otaru_format::digest::Digest;

use super::notice::Notice;
use crate::caller::Caller;

/// Somebody who is logged in. As an extractor it sends everybody else to the login.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Token and role of the visitor.
    pub(super) caller: Caller,
    /// The session.
    pub(super) session: Digest,
    /// Notice of the page before.
    pub(super) notice: Option<Notice>,
    /// Time of the request, in milliseconds since 1970.
    pub(super) now: i64,
    /// Number of events until then.
    pub(super) since: u64,
}

impl Visitor {
    /// Whether they may change devices, releases and rollouts.
    pub(super) fn operates(&self) -> bool {
        self.caller.role >= Role::Operator
    }

    /// Whether they may do everything.
    pub(super) fn administers(&self) -> bool {
        self.caller.role >= Role::Admin
    }
}
