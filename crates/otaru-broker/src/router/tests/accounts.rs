//! Accounts of an identity that comes with many groups.

use std::time::Duration;

use super::*;
use crate::policy::Group;
use crate::settings::{Bounds, Quota};

/// Retains so many bytes under a topic of its own; returns the reason that the client is told.
fn retain(bench: &mut Bench, held: &Held, topic: &str, bytes: usize) -> u8 {
    let mut out = Vec::new();
    bench
        .router
        .publish(held.link, &message(topic, &vec![0; bytes], Qos::One, true), bench.now, &mut out)
        .unwrap();
    out.get(4).copied().unwrap_or(0)
}

#[test]
fn no_total_refuses_an_identitys_share_of_what_is_retained() {
    let total = Quota { retained_bytes: 8_000, ..Bounds::default().quota };
    let in_all = Quota { retained_bytes: 16_000, ..Settings::default().in_all };
    let mut bench = Bench::new(Settings { in_all, ..Settings::default() });
    let come = |bench: &mut Bench, identity: u32, group: &str| {
        let mut admission = Admission::new(identity);
        admission.bounds.retained_share = 1_000;
        admission.group = Some(Group { name: group.into(), quota: total });
        bench.connect(&admission, &hello("a")).unwrap()
    };
    let grasping = [come(&mut bench, 1, "key"), come(&mut bench, 2, "other")];
    for (number, held) in grasping.iter().enumerate() {
        let codes = (0..9).map(|topic| retain(&mut bench, held, &format!("{number}/{topic}"), 1_000));
        assert_eq!(codes.filter(|code| *code == 0x97).count(), 2);
    }
    let listener = bench.connect(&Admission::new(7), &hello("listener")).unwrap();
    bench.subscribe(&listener, "#", 0);
    while bench.take(&listener).0 != Taken::All {}
    for (identity, group) in [(3, "key"), (4, "other"), (5, "third")] {
        let honest = come(&mut bench, identity, group);
        let code = |bench: &mut Bench, leaf, bytes| {
            retain(bench, &honest, &format!("honest/{identity}/{leaf}"), bytes)
        };
        assert_eq!([code(&mut bench, "a", 400), code(&mut bench, "b", 300)], [0, 0], "of {group}");
        assert_eq!(code(&mut bench, "a", 410), 0, "a later one in its place");
        if group != "third" {
            assert_eq!(code(&mut bench, "c", 1_500), 0x97, "more than its share");
        }
        assert!(bench.router.stats().queued_bytes > 0, "what is not kept is heard");
    }
    assert!(bench.router.stats().retained_bytes <= total.retained_bytes * 2 + 3 * 1_000);
}

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

#[test]
fn of_very_many_that_came_and_went_only_so_many_are_kept() {
    let mut bench = Bench::new(Settings::default());
    for number in 0..5_000 {
        let held = bench.connect(&Admission::new(number), &hello("a")).unwrap();
        bench.router.lose(held.link, bench.now);
    }
    assert!(bench.router.stats().accounts <= 1_000, "{:?}", bench.router.stats());
    let later = bench.now + Duration::from_secs(61);
    while bench.router.tick(later).is_some_and(|next| next <= later) {}
    assert_eq!((bench.router.stats().accounts, bench.router.next_due()), (0, None));
}
