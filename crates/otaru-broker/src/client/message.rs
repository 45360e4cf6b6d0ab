//! Messages that arrive, and news of the connection.

/// Longest payload that is looked at.
pub const LONGEST_MESSAGE: usize = 4 * 1024;

/// News from the broker.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message(Message),
    /// The connection is lost; it will be tried again.
    Lost(String),
    /// The connection is back, with everything that was subscribed to.
    Back,
    /// So many messages were dropped: nobody took them in time. Retained ones can be had again by subscribing again.
    Missed(u64),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the broker had kept it: it is old news.
    pub retained: bool,
}
