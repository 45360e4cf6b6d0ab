//! Queued bytes at the bounds of an identity, of a group and of all.

use super::*;
use crate::policy::Group;
use crate::settings::{Bounds, Quota};

/// Returns an identity that has nothing of its own, in a group that may have so much.
fn member(identity: u32, group: &str, queued_bytes: usize) -> Admission<u32> {
    let quota = Quota { queued_bytes, ..Settings::default().in_all };
    let mut admission = Admission::new(identity);
    admission.bounds.queued_share = 0;
    admission.group = Some(Group { name: group.into(), quota });
    admission
}

/// Connects somebody who listens to the topic of this name, in a session that lasts.
fn listen(bench: &mut Bench, admission: &Admission<u32>, name: &str) -> Held {
    let held = bench.connect(admission, &Connect { session_expiry: 60, ..hello(name) }).unwrap();
    assert_eq!(bench.subscribe(&held, name, 1), 1);
    held
}

fn say(bench: &mut Bench, writer: &Held, topic: &str, bytes: usize) {
    bench.publish(writer, &message(topic, &vec![0; bytes], Qos::One, false));
}

#[test]
fn a_hoarder_that_is_there_makes_room_for_others_of_its_group_and_of_all() {
    for in_all in [false, true] {
        let mut settings = Settings::default();
        settings.in_all.queued_bytes = if in_all { 4_000 } else { 1 << 20 };
        let mut bench = Bench::new(settings);
        let of = |identity| member(identity, "key", if in_all { 1 << 20 } else { 4_000 });
        let [glutton, small, innocent] = [(1, "glutton"), (2, "small"), (3, "b")]
            .map(|(number, name)| listen(&mut bench, &of(number), name));
        let writer = bench.connect(&Admission::new(4), &hello("writer")).unwrap();
        for (topic, bytes) in [("glutton", 1_000), ("glutton", 1_000), ("small", 600)] {
            say(&mut bench, &writer, topic, bytes);
        }
        // What no single one can make room for costs only itself.
        say(&mut bench, &writer, "b", 4_000);
        assert_eq!((glutton.signal.ending(), bench.router.stats().dropped), (None, 1));
        say(&mut bench, &writer, "b", 1_000);
        assert_eq!(glutton.signal.ending(), Some(Reason::QuotaExceeded));
        assert_eq!((small.signal.ending(), innocent.signal.ending()), (None, None));
        assert_eq!((bench.router.stats().dropped, bench.router.stats().sessions), (1, 3));
        // The largest of all finds nobody larger.
        say(&mut bench, &writer, "b", 2_200);
        assert_eq!((innocent.signal.ending(), bench.router.stats().dropped), (None, 2));
    }
}

#[test]
fn one_message_ends_at_most_one_for_the_sake_of_others() {
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(0), &hello("writer")).unwrap();
    let hoarders: Vec<_> = (1..=4)
        .map(|number| listen(&mut bench, &member(number, "key", 5_000), &number.to_string()))
        .collect();
    for number in 1..=4 {
        say(&mut bench, &writer, &number.to_string(), 1_100);
    }
    for number in 11..=14 {
        listen(&mut bench, &member(number, "key", 5_000), "all");
    }
    say(&mut bench, &writer, "all", 1_000);
    let ended = hoarders.iter().filter(|held| held.signal.ending().is_some()).count();
    assert_eq!((ended, bench.router.stats().dropped), (1, 3));
}

#[test]
fn a_share_is_refused_by_no_total() {
    let mut settings = Settings::default();
    settings.in_all.queued_bytes = 6_000;
    let mut bench = Bench::new(settings);
    let writer = bench.connect(&Admission::new(0), &hello("writer")).unwrap();
    let share = Bounds::device().queued_share;
    let of = |identity| {
        let mut admission = member(identity, "key", 5_000);
        admission.bounds = Bounds::device();
        admission
    };
    let hoarder = listen(&mut bench, &of(1), "hoarder");
    for _ in 0..20 {
        say(&mut bench, &writer, "hoarder", 1_000);
    }
    assert!(bench.router.stats().queued_bytes <= 5_000 + share);
    let dropped = bench.router.stats().dropped;
    assert!(dropped > 0, "the total is used up");
    for identity in 2..50 {
        listen(&mut bench, &of(identity), "honest");
    }
    for _ in 0..3 {
        say(&mut bench, &writer, "honest", 1_000);
    }
    assert_eq!((bench.router.stats().dropped, hoarder.signal.ending()), (dropped, None));
    assert!(bench.router.stats().queued_bytes <= 5_000 + 50 * share);
    // What is above a share counts, and the largest makes room for it.
    say(&mut bench, &writer, "honest", 2_000);
    assert_eq!(hoarder.signal.ending(), Some(Reason::QuotaExceeded));
}

#[test]
fn a_message_for_a_whole_fleet_of_one_key_reaches_all_who_are_there() {
    const DEVICES: u32 = 20_000;
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(0), &hello("writer")).unwrap();
    let fleet: Vec<_> = (1..=DEVICES)
        .map(|number| {
            let mut admission = member(number, "key", 2 << 20);
            admission.bounds = Bounds::device();
            let held = bench.connect(&admission, &hello("c")).unwrap();
            assert_eq!(bench.subscribe(&held, "ESP32/ota/update", 1), 1);
            held
        })
        .collect();
    say(&mut bench, &writer, "ESP32/ota/update", 768);
    // Others have the router in between, and what they say comes behind.
    bench.publish(&fleet[0], &message("ESP32/ota/update", b"later", Qos::One, false));
    let (mut turns, mut queued) = (0, bench.router.stats().queued_bytes);
    while bench.router.work_off(bench.now) {
        let before = std::mem::replace(&mut queued, bench.router.stats().queued_bytes);
        assert!(queued - before <= 4_096 * (768 + 128 + 16), "{before} {queued}");
        turns += 1;
    }
    assert!(turns > DEVICES / 4_096, "{turns}");
    assert_eq!((bench.router.stats().dropped, bench.router.underway.len()), (0, 0));
    bench.router.tick(bench.now);
    assert_eq!(bench.router.next_due(), None);
    for held in &fleet {
        assert!(held.signal.ending().is_none());
        let (_, out) = bench.take(held);
        let bytes = out.next();
        assert!(bytes.len() > 768 && bytes.ends_with(b"later"));
    }
}

#[test]
fn at_an_identitys_own_bound_its_largest_session_makes_room_and_an_absent_one_first() {
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(0), &hello("writer")).unwrap();
    let mut own = Admission::new(1);
    own.bounds.quota.queued_bytes = 4_000;
    let [hoarder, absent, next] = ["hoarder", "absent", "next"].map(|name| listen(&mut bench, &own, name));
    bench.router.lose(absent.link, bench.now);
    for (topic, bytes) in [("hoarder", 1_500), ("absent", 1_200), ("next", 300)] {
        say(&mut bench, &writer, topic, bytes);
    }
    assert_eq!(bench.router.stats().sessions, 4);
    say(&mut bench, &writer, "next", 1_000);
    assert_eq!((bench.router.stats().sessions, hoarder.signal.ending()), (3, None), "the absent one is gone");
    say(&mut bench, &writer, "next", 1_000);
    assert_eq!(hoarder.signal.ending(), Some(Reason::QuotaExceeded), "then the largest");
    assert_eq!((next.signal.ending(), bench.router.stats().dropped), (None, 0));
    say(&mut bench, &writer, "next", 3_000);
    assert_eq!(next.signal.ending(), Some(Reason::QuotaExceeded), "and at last itself");
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
        let of = |identity| Admission { group: group.clone(), ..member(identity, "", 0) };
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
        // Nobody makes room for the largest.
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
    let alone = Admission { group: None, ..member(1, "", 0) };
    let held = bench.connect(&alone, &connect).unwrap();
    let writer = bench.connect(&Admission::new(2), &hello("writer")).unwrap();
    assert_eq!(bench.subscribe(&held, "a", 1), 1);
    bench.router.lose(held.link, bench.now);
    for _ in 0..3 {
        bench.publish(&writer, &message("a", &[0; 800], Qos::One, false));
    }
    let stats = bench.router.stats();
    assert_eq!((stats.sessions, stats.queued_bytes, stats.dropped), (2, 2 * (800 + 129), 1));
    bench.router.end(&[1], Reason::NotAuthorized, false, bench.now);
    assert_eq!(bench.router.accounts.largest(crate::router::account::ALL), None);
}

#[test]
fn an_absent_session_counts_for_the_group_that_its_identity_has_moved_to() {
    let mut bench = Bench::new(Settings::default());
    let of = |identity, name: &str| member(identity, name, 2_000);
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
