//! Queued bytes at the bound of a group.

use super::*;
use crate::policy::Group;
use crate::settings::{Bounds, Quota};

#[test]
fn a_full_group_costs_a_receiver_the_message_but_not_its_connection() {
    let mut bench = Bench::new(Settings::default());
    let quota = Quota { queued_bytes: 2_000, ..Bounds::default().quota };
    let mut member = Admission::new(1);
    member.group = Some(Group { name: "key".into(), quota });
    let mut other = Admission::new(2);
    other.group = member.group.clone();
    other.bounds.quota.queued_bytes = 500;
    let [glutton, innocent, own] =
        [(&member, "glutton"), (&Admission { identity: 3, ..member.clone() }, "b"), (&other, "own")]
            .map(|(admission, name)| bench.connect(admission, &hello(name)).unwrap());
    let writer = bench.connect(&Admission::new(4), &hello("writer")).unwrap();
    for (held, filter) in [(&glutton, "a"), (&innocent, "b"), (&own, "c")] {
        assert_eq!(bench.subscribe(held, filter, 1), 1);
    }
    bench.publish(&writer, &message("a", &[0; 1_800], Qos::One, false));
    assert_eq!(bench.router.stats().dropped, 0);
    bench.publish(&writer, &message("b", &[0; 100], Qos::One, false));
    assert_eq!((innocent.signal.ending(), bench.router.stats().dropped), (None, 1));
    bench.publish(&writer, &message("c", &[0; 1_000], Qos::One, false));
    assert_eq!(own.signal.ending(), Some(Reason::QuotaExceeded), "its own bound");
    bench.router.lose(glutton.link, bench.now);
    bench.publish(&writer, &message("b", b"room again", Qos::One, false));
    let (_, out) = bench.take(&innocent);
    assert!(out.next().len() > 10);
}

#[test]
fn the_largest_absent_session_makes_room_for_its_group_and_for_all() {
    for in_all in [false, true] {
        let mut settings = Settings::default();
        let full = Quota { queued_bytes: 4_000, ..Bounds::default().quota };
        if in_all {
            settings.in_all.queued_bytes = full.queued_bytes;
        }
        let mut bench = Bench::new(settings);
        let group = Some(Group { name: "key".into(), quota: full }).filter(|_| !in_all);
        let of = |identity| Admission { group: group.clone(), ..Admission::new(identity) };
        let lasting = |client| Connect { session_expiry: 60, ..hello(client) };
        let writer = bench.connect(&Admission::new(9), &hello("writer")).unwrap();
        for (number, name) in [(1, "small"), (2, "large"), (3, "other")] {
            let held = bench.connect(&of(number), &lasting(name)).unwrap();
            assert_eq!(bench.subscribe(&held, name, 1), 1);
            bench.router.lose(held.link, bench.now);
        }
        let here = bench.connect(&of(4), &hello("here")).unwrap();
        assert_eq!(bench.subscribe(&here, "here", 1), 1);
        for (topic, bytes) in [("small", 600), ("large", 1_000), ("large", 900), ("other", 300)] {
            bench.publish(&writer, &message(topic, &vec![0; bytes], Qos::One, false));
        }
        assert_eq!((bench.router.stats().sessions, bench.router.stats().dropped), (5, 0));
        bench.publish(&writer, &message("here", &[0; 1_500], Qos::One, false));
        assert_eq!(
            (bench.router.stats().sessions, bench.router.stats().dropped),
            (4, 0),
            "the largest is gone"
        );
        let back = bench.connect(&of(1), &Connect { clean: false, ..lasting("small") }).unwrap();
        assert!(bench.take(&back).1.next().len() > 600, "a small one is not");
        // What is larger than any that is absent costs only itself.
        bench.publish(&writer, &message("here", &[0; 3_000], Qos::One, false));
        assert_eq!((bench.router.stats().sessions, bench.router.stats().dropped), (4, 1));
        assert_eq!(here.signal.ending(), None);
    }
}

#[test]
fn an_absent_session_that_is_the_largest_keeps_what_it_has() {
    let mut settings = Settings::default();
    settings.in_all.queued_bytes = 2_000;
    let mut bench = Bench::new(settings);
    let connect = Connect { session_expiry: 60, ..hello("away") };
    let held = bench.connect(&Admission::new(1), &connect).unwrap();
    let writer = bench.connect(&Admission::new(2), &hello("writer")).unwrap();
    assert_eq!(bench.subscribe(&held, "a", 1), 1);
    bench.router.lose(held.link, bench.now);
    for _ in 0..3 {
        bench.publish(&writer, &message("a", &[0; 800], Qos::One, false));
    }
    let stats = bench.router.stats();
    assert_eq!((stats.sessions, stats.queued_bytes, stats.dropped), (2, 2 * (800 + 129), 1));
    bench.router.end(&[1], Reason::NotAuthorized, false, bench.now);
    assert!(bench.router.absent.is_empty());
}

#[test]
fn an_absent_session_counts_for_the_group_that_its_identity_has_moved_to() {
    let mut bench = Bench::new(Settings::default());
    let quota = Quota { queued_bytes: 2_000, ..Bounds::default().quota };
    let of = |identity, name: &str| Admission {
        group: Some(Group { name: name.into(), quota }),
        ..Admission::new(identity)
    };
    let lasting = |client| Connect { session_expiry: 60, ..hello(client) };
    let writer = bench.connect(&Admission::new(9), &hello("writer")).unwrap();
    let away = bench.connect(&of(1, "old"), &lasting("away")).unwrap();
    assert_eq!(bench.subscribe(&away, "away", 1), 1);
    bench.router.lose(away.link, bench.now);
    bench.publish(&writer, &message("away", &[0; 1_500], Qos::One, false));
    // Another connection of the same identity comes with another key.
    let _moved = bench.connect(&of(1, "new"), &lasting("beside")).unwrap();
    for (identity, name, sessions) in [(2, "old", 4), (3, "new", 4)] {
        let here = bench.connect(&of(identity, name), &hello(name)).unwrap();
        assert_eq!(bench.subscribe(&here, name, 1), 1);
        bench.publish(&writer, &message(name, &[0; 1_000], Qos::One, false));
        assert_eq!((bench.router.stats().sessions, bench.router.stats().dropped), (sessions, 0), "{name}");
    }
}
