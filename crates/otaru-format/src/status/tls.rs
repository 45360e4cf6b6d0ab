//! TLS of a device's connection to its broker, as its reports tell of it.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};

/// TLS of the connection that a report comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReport<S> {
    /// CAs that the device trusts, as [`CaIds`] has them.
    pub trusts: S,
    /// Whether the dates of the broker's certificates were checked.
    pub dates: Dates,
}

/// Check of the dates in certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "snake_case")]
pub enum Dates {
    /// Against the time.
    Checked,
    /// The device did not know the time yet: only what had expired when its firmware was built is refused.
    ClockUnknown,
    /// Never: the library has no clock.
    Unchecked,
    /// Word of a newer device.
    #[serde(other)]
    Unknown,
}

impl Dates {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checked => "checked",
            Self::ClockUnknown => "clock_unknown",
            Self::Unchecked => "unchecked",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Names of CAs in a report: of each the first 16 hexadecimal digits of its certificate's SHA-256, with a space between two. Empty where
/// there are more than [`CaIds::MOST`], as a computer's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaIds(heapless::String<{ CaIds::MOST * (CaIds::DIGITS + 1) }>);

impl CaIds {
    /// Largest number of CAs that are named.
    pub const MOST: usize = 4;
    /// Digits of a CA's name.
    pub const DIGITS: usize = 16;

    /// Returns the names of these certificates, which are in DER.
    pub fn of<'c>(cas: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let mut text = heapless::String::new();
        for (index, ca) in cas.into_iter().enumerate() {
            if index >= Self::MOST {
                return Self::default();
            }
            if index > 0 {
                let _ = text.push(' ');
            }
            for byte in Digest::of(ca).0.into_iter().take(Self::DIGITS / 2) {
                digest::push_hex(&mut text, byte);
            }
        }
        Self(text)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
