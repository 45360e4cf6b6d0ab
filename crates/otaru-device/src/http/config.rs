//! Settings of a download.

use core::time::Duration;

/// Timeouts and bounds of a download.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct HttpConfig {
    /// For name resolution and the TCP connection.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub connect_timeout: Duration,
    /// For a TLS handshake, with a server of firmware or the broker. A chip without help for RSA and large curves takes seconds.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub handshake_timeout: Duration,
    /// From the request to the answer's headers.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub first_byte_timeout: Duration,
    /// Longest pause in the body; [`HttpConfig::least_rate`] bytes must arrive in each such span.
    #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
    pub stall_timeout: Duration,
    /// Bytes that must arrive in each stall timeout.
    pub least_rate: u32,
    /// Redirects followed.
    pub max_redirects: u8,
}

impl HttpConfig {
    /// 10 s, 30 s for TLS, 15 s, 20 s, 2 KiB, 5 redirects.
    pub const DEFAULT: Self = Self {
        connect_timeout: Duration::from_secs(10),
        handshake_timeout: Duration::from_secs(30),
        first_byte_timeout: Duration::from_secs(15),
        stall_timeout: Duration::from_secs(20),
        least_rate: 2048,
        max_redirects: 5,
    };
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}
