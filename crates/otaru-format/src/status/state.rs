//! States of a device in an update.

use core::fmt;

use serde::{Deserialize, Serialize};

/// State of a device in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpdateState {
    /// Nothing asked, nothing done since the boot.
    Idle,
    /// A command is being looked at.
    Checking,
    /// Firmware arrives and is written.
    Downloading,
    /// An attempt failed; another follows.
    Retrying,
    /// The slot is read back and checked.
    Verifying,
    /// The new image is activated; a restart follows.
    Restarting,
    /// The new image runs, not yet confirmed.
    Trial,
    /// The new image is confirmed.
    Confirmed,
    /// The new image failed its trial; the old one runs again.
    RolledBack,
    /// The update was given up.
    Failed,
    /// The command cannot be followed.
    Refused,
    /// The image asked for runs already.
    Current,
    /// The update was cancelled.
    Cancelled,
    /// A state this program does not know, told by a newer device. No device sends it.
    #[serde(other)]
    Unknown,
}

impl UpdateState {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        // An array, as for [`Code`].
        const NAMES: [&str; UpdateState::ALL.len()] = [
            "idle",
            "checking",
            "downloading",
            "retrying",
            "verifying",
            "restarting",
            "trial",
            "confirmed",
            "rolled_back",
            "failed",
            "refused",
            "current",
            "cancelled",
            "unknown",
        ];
        NAMES[self as usize]
    }

    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Idle,
        Self::Checking,
        Self::Downloading,
        Self::Retrying,
        Self::Verifying,
        Self::Restarting,
        Self::Trial,
        Self::Confirmed,
        Self::RolledBack,
        Self::Failed,
        Self::Refused,
        Self::Current,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The state of this name; [`Self::Unknown`] for another.
    pub fn of_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Unknown)
    }

    /// Whether an update is under way.
    pub const fn is_under_way(self) -> bool {
        !self.is_final() && !matches!(self, Self::Idle | Self::Unknown)
    }

    /// Whether an update did not work, or was not taken.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::RolledBack | Self::Failed | Self::Refused)
    }

    /// Whether the device is done with the command.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Confirmed
                | Self::RolledBack
                | Self::Failed
                | Self::Refused
                | Self::Current
                | Self::Cancelled
        )
    }
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
