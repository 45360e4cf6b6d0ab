//! Effects: what a step asks the server to do. Each is safe to carry out twice.

use otaru_format::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::held::Held;
use crate::ids::{DeviceId, OfferId, RolloutId};
use crate::stage::Outcome;
use crate::tally::Verdicts;

/// Something for the server to do, after the state is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// Send the device an offer. It may be one it has already: a device does nothing about a repetition.
    Offer {
        /// The device.
        device: DeviceId,
        /// Value of the offer's field `deployment`.
        offer: OfferId,
        /// The image.
        image: Digest,
        /// The offer's field `force`.
        force: bool,
    },
    /// Tell the device to cancel, and take the offer off the broker if it is retained there.
    Withdraw {
        /// The device.
        device: DeviceId,
        /// The offer.
        offer: OfferId,
    },
    /// Feed [`Supersede`](crate::Event::Supersede) to the device's deployment in another rollout.
    Supersede {
        /// The device.
        device: DeviceId,
        /// In which rollout.
        rollout: RolloutId,
        /// By which.
        by: RolloutId,
    },
    /// A deployment is over. The device may have become a target of other rollouts: offer it to them with
    /// [`admit`](crate::admit()).
    Finished {
        /// The device.
        device: DeviceId,
        /// The outcome.
        outcome: Outcome,
    },
    /// Offer every device of the fleet to [`admit`](crate::admit()), then tell it with
    /// [`Control::Scanned`](crate::Control::Scanned).
    Scan {
        /// Number of this scan.
        scan: u32,
    },
    /// Feed [`Close`](crate::Event::Close) to every deployment of this rollout that is not over, in any number of batches.
    CloseAll,
    /// Something for the log and for people.
    Notice(Notice),
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// It runs.
    Started,
    /// The wave with this index, from 0, is open.
    WaveOpened(usize),
    /// The open wave is settled and good, and soaks.
    Soaking(usize),
    /// The open wave is settled, and the next does not open by itself.
    Held(Held),
    /// Too many failures: nothing starts any more.
    Stopped(Verdicts),
    /// It is over.
    Completed,
}
