//! Bytes of subscriptions.

use super::*;

#[test]
fn long_filters_of_one_identity_and_of_all_are_few() {
    let mut bench = Bench::new(Settings::default());
    let long = "x".repeat(60_000);
    let deep = "x/".repeat(120);
    let mut refused = 0;
    for identity in 0..200 {
        for session in 0..3 {
            let held = bench.connect(&Admission::new(identity), &hello(&session.to_string())).unwrap();
            for number in 0..15 {
                let filter =
                    if number % 2 == 0 { format!("{number}{long}") } else { format!("{number}{deep}+") };
                refused += u32::from(bench.subscribe(&held, &filter, 0) == 0x97);
            }
        }
        assert!(bench.router.stats().subscribed_bytes <= 1_600 * 1_024 * (identity as usize + 1));
    }
    assert!(refused > 0 && bench.router.stats().subscribed_bytes > 250 << 20);
    let other = bench.connect(&Admission::new(1_000), &hello("other")).unwrap();
    assert_eq!(
        bench.subscribe(&other, &long, 0),
        0x97,
        "full in all: {}",
        bench.router.stats().subscribed_bytes
    );
    assert!(bench.router.stats().subscribed_bytes <= 256 << 20);
    let all: Vec<u32> = (0..=1_000).collect();
    bench.router.end(&all, Reason::NotAuthorized, false, bench.now);
    assert_eq!(bench.router.stats().subscribed_bytes, 0);
}

#[test]
fn what_is_subscribed_to_again_or_no_longer_is_counted_once_or_not() {
    let mut bench = Bench::new(Settings::default());
    let held = bench.connect(&Admission::new(1), &hello("a")).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.subscribe(&held, "a/+", 1), 1);
    }
    assert_eq!(bench.router.stats().subscribed_bytes, 384 + 6 + 2 * 512);
    bench.router.drop_subscription(held.link.session, "a/+");
    assert_eq!(bench.router.stats().subscribed_bytes, 0);
}
