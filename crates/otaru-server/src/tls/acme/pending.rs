//! An order whose domains are proven and whose certificate is not here yet. It outlives the process, so that no certificate is lost that the
//! directory has issued.

use otaru_rollout::Time;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::domain::Domain;

/// Milliseconds after which an order that comes to no end is given up.
const OLD: u64 = 3_600 * 1_000;

/// An order under way.
#[derive(Serialize, Deserialize)]
pub(super) struct PendingOrder {
    /// URL of the order.
    pub(super) url: String,
    /// Domains that it is for.
    pub(super) domains: Vec<Domain>,
    /// Key that the certificate is for, as PEM text.
    #[serde(with = "secret")]
    pub(super) key: Zeroizing<String>,
    /// Moment at which its domains were proven.
    pub(super) at: Time,
}

impl PendingOrder {
    /// Whether it was made long ago, or by a clock that was wrong.
    pub(super) fn is_old(&self, now: Time) -> bool {
        self.at > now || now.since(self.at).0 >= OLD
    }
}

/// A secret as text, without copies that stay in memory.
mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(secret: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}
