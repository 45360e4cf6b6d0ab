//! Limits of uploads.

use std::time::Duration;

/// Limits of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes of a file.
    pub bytes: u64,
    /// Longest time in which a client may send nothing.
    pub stall: Duration,
    /// Longest time of the whole upload.
    pub total: Duration,
}

impl Default for UploadLimits {
    fn default() -> Self {
        // As large as the largest flash; with a modem's 56 kbit/s, an image of 4 MiB takes ten minutes.
        Self { bytes: 16 << 20, stall: Duration::from_secs(30), total: Duration::from_secs(15 * 60) }
    }
}
