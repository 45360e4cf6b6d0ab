//! Numbers of sessions and of the connections that hold them.

/// Number of a session, never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(pub(super) u64);

/// A connection's hold on a session. It holds no longer once another connection has the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(super) session: SessionId,
    pub(super) connection: u64,
}
