//! Accounts of an identity that comes with many groups.

use std::time::Duration;

use super::*;
use crate::policy::Group;
use crate::settings::Bounds;

#[test]
fn an_identity_that_comes_with_many_groups_leaves_nothing() {
    let mut bench = Bench::new(Settings::default());
    let mut admission = Admission::new(1);
    admission.bounds.connects.burst = 50;
    for number in 0..100 {
        admission.group = Some(Group { name: number.to_string(), quota: Bounds::default().quota });
        // Half of them are refused for the rate.
        let _ = bench.connect(&admission, &hello("a"));
    }
    bench.router.end(&(0..=1_000).collect::<Vec<_>>(), Reason::NotAuthorized, false, bench.now);
    for minutes in 1..10 {
        bench.router.tick(bench.now + Duration::from_secs(61 * minutes));
    }
    assert_eq!((bench.router.stats().accounts, bench.router.next_due()), (0, None));
}
