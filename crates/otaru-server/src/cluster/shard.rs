//! Shards: devices by a hash of their id.

use otaru_format::digest::Digest;

/// Number of shards.
pub const SHARDS: u16 = 256;

/// A shard: devices whose ids have this hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(pub u8);

impl Shard {
    /// Returns the shard of a device: the first byte of its id's SHA-256.
    pub fn of(device: &str) -> Self {
        Self(Digest::of(device.as_bytes()).0[0])
    }

    /// Returns all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_spread_evenly_and_for_good() {
        let mut counts = [0_u32; 256];
        (0..25_600).for_each(|n| counts[usize::from(Shard::of(&format!("device-{n:05}")).0)] += 1);
        assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
        // Servers of different versions must agree.
        assert_eq!(Shard::of("lamp"), Shard(Digest::of(b"lamp").0[0]));
        assert_eq!((Shard::of("").0, Shard::all().count()), (0xe3, usize::from(SHARDS)));
    }
}
