//! Names of offers, as devices repeat them.

/// Returns the rollout in an offer's name, such as `r17.2`.
pub(crate) fn rollout_in(deployment: &str) -> Option<i64> {
    let (rollout, start) = deployment.strip_prefix('r')?.split_once('.')?;
    start.parse::<u32>().ok()?;
    rollout.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use otaru_rollout::{OfferId, RolloutId};

    use super::*;

    #[test]
    fn offers_are_recognized() {
        let name = OfferId { rollout: RolloutId(17), start: 2 }.to_string();
        assert_eq!(rollout_in(&name), Some(17));
        for other in ["", "r", "r1", "d-17", "r-1.2", "r0.1", "r1.x", "r99999999999999999999.1"] {
            assert_eq!(rollout_in(other), None, "{other}");
        }
    }
}
