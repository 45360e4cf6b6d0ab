//! Counts for whoever runs the broker.

/// Counts of what a broker holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections before login.
    pub strangers: usize,
    /// Logins that are being decided on.
    pub logins: usize,
    /// Connections after login.
    pub connections: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Bytes of subscriptions and wills.
    pub subscribed_bytes: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
    /// Bytes of messages that wait or are not acknowledged, counted for each receiver.
    pub queued_bytes: usize,
    /// Identities and groups that have an account.
    pub accounts: usize,
    /// Messages that were dropped since a bound was reached.
    pub dropped: u64,
}
