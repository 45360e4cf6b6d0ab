//! Stages of a deployment, and the outcomes that it can have.

use serde::{Deserialize, Serialize};

/// Stage of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It waits for its turn.
    Queued,
    /// The device was sent an offer and has not answered.
    Offered,
    /// The device said that it follows the offer.
    Updating,
    /// The image did not reach the broker, and the device tries it again by itself; or it started the image and was not heard
    /// since, so that it may be doing so.
    Retrying,
    /// It is over.
    Finished(Outcome),
}

/// Outcome of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The device reported the image's digest as that of the image it runs, and it as confirmed.
    Succeeded,
    /// It did so without having been offered the image here.
    Current,
    /// It gave up, for the last time.
    Failed,
    /// It started the image and went back.
    RolledBack,
    /// It would not follow the offer.
    Refused,
    /// It did not end in time, for the last time.
    TimedOut,
    /// The rollout ended before it, or somebody cancelled it at the device.
    Cancelled,
    /// A rollout that comes first is for the device too.
    Superseded,
    /// The device was brought back to the image as often as it may be, and runs another again. That says nothing about the image: a
    /// person with a cable does the same.
    KeepsGoingBack,
    /// The device is gone.
    Removed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Succeeded,
        Self::Current,
        Self::Failed,
        Self::RolledBack,
        Self::Refused,
        Self::TimedOut,
        Self::Cancelled,
        Self::Superseded,
        Self::KeepsGoingBack,
        Self::Removed,
    ];

    /// Name, the same as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Current => "current",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::KeepsGoingBack => "keeps_going_back",
            Self::Removed => "removed",
        }
    }

    /// Whether it counts against the image.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::RolledBack | Self::Refused | Self::TimedOut)
    }

    /// Whether somebody should look at the device: it failed, or keeps going back.
    pub fn is_trouble(self) -> bool {
        self.is_failure() || self == Self::KeepsGoingBack
    }

    /// Whether an operator may have it tried [again](crate::Event::Retry).
    pub fn may_be_retried(self) -> bool {
        self.is_trouble() || self == Self::Cancelled
    }

    /// Whether the device was found to run the image.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::Current)
    }
}
