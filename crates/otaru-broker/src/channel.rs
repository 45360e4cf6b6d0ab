//! Security of the stream below a connection. The broker speaks no TLS itself: whoever puts it around a stream says here what came of it.

use std::fmt;
use std::sync::{Arc, OnceLock};

/// Security of a stream.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel {
    /// None, as far as is known.
    #[default]
    Plain,
    /// TLS.
    Tls {
        /// Certificate of the client in DER, whose signatures were checked; none if it showed none.
        certificate: Option<Box<[u8]>>,
    },
    /// None, at a port where TLS is spoken: the client is to be told so, and let in nowhere.
    PlainAtTls,
}

/// Certificates are long, and logs short.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls { certificate: None } => "Tls",
            Self::Tls { certificate: Some(_) } => "Tls with a certificate",
            Self::PlainAtTls => "PlainAtTls",
        })
    }
}

/// Place for what becomes known of a stream after it was handed over, and before its client says CONNECT.
#[derive(Debug, Clone, Default)]
pub struct ChannelHandle(Arc<OnceLock<Channel>>);

impl ChannelHandle {
    /// Says what came of the stream; what was said first counts.
    pub fn set(&self, channel: Channel) {
        let _ = self.0.set(channel);
    }

    /// Returns what was said.
    pub(crate) fn get(&self) -> Channel {
        self.0.get().cloned().unwrap_or_default()
    }
}
