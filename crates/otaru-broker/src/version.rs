//! The two versions of the protocol, and the three delivery guarantees.

pub use otaru_format::mqtt::Version;

/// Delivery guarantee (QoS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Qos {
    /// At most once.
    Zero,
    /// At least once.
    One,
    /// Exactly once.
    Two,
}

impl Qos {
    /// Returns the guarantee of this number; there is no 3.
    pub(crate) fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Zero),
            1 => Some(Self::One),
            2 => Some(Self::Two),
            _ => None,
        }
    }
}
