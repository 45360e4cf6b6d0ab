//! Retained messages that are passed over, and those that wait for room.

use super::*;
use crate::codec::ack::{Ack, AckKind};

#[test]
fn retained_messages_that_are_not_sent_do_not_hold_the_others_up() {
    const COUNT: usize = 2_000;
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(1), &hello("writer")).unwrap();
    for number in 0..COUNT {
        bench.publish(&writer, &message(&format!("a/{number}"), &[0; 64], Qos::Zero, true));
    }
    let small = Connect { maximum_packet_size: Some(32), ..hello("small") };
    let small = bench.connect(&Admission::new(2), &small).unwrap();
    let no_local = 4;
    for (held, options, what) in [(&small, 0, "too large"), (&writer, no_local, "its own")] {
        bench.subscribe(held, "#", options);
        let mut turns = 1;
        loop {
            let (taken, out) = bench.take(held);
            assert!(out.is_empty(), "{what}");
            if taken == Taken::All {
                break;
            }
            turns += 1;
        }
        assert!(turns >= COUNT / 512, "{turns} turns: {what}");
    }
}

#[test]
fn retained_messages_wait_for_room_as_others_do() {
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(1), &hello("writer")).unwrap();
    for number in 0..5 {
        bench.publish(&writer, &message(&format!("a/{number}"), &[0; 800], Qos::One, true));
    }
    bench.publish(&writer, &message("a/3x", &[0; 4_000], Qos::One, true));
    let mut reader = Admission::new(2);
    reader.bounds.quota.queued_bytes = 2_000;
    let held = bench.connect(&reader, &hello("reader")).unwrap();
    assert_eq!(bench.subscribe(&held, "#", 1), 1);
    let mut heard = 0;
    for turn in 0..3 {
        let mut bytes = 0;
        loop {
            let (taken, out) = bench.take(&held);
            bytes += out.next().len();
            if taken == Taken::All {
                break;
            }
        }
        assert!(bench.router.stats().queued_bytes <= 2_000, "they are charged for");
        heard += bytes / 800;
        assert_eq!(heard, [2, 4, 5][turn]);
        for id in 1..=5 {
            let ack = Ack { kind: AckKind::Puback, id, refuses: false };
            bench.router.acknowledge(held.link, ack, &mut Vec::new()).unwrap();
        }
    }
    assert_eq!(
        (bench.router.stats().queued_bytes, bench.router.stats().dropped),
        (0, 1),
        "one can never fit"
    );
}

#[test]
fn whoever_waits_for_room_that_others_have_is_woken_again() {
    let mut settings = Settings::default();
    settings.in_all.queued_bytes = 2_000;
    let mut bench = Bench::new(settings);
    let writer = bench.connect(&Admission::new(1), &hello("writer")).unwrap();
    bench.publish(&writer, &message("kept", &[0; 800], Qos::One, true));
    let mut reader = Admission::new(2);
    reader.bounds.queued_share = 0;
    let [other, held] = ["other", "held"].map(|name| {
        bench.connect(&Admission { identity: name.len() as u32, ..reader.clone() }, &hello(name)).unwrap()
    });
    assert_eq!(bench.subscribe(&other, "b", 1), 1);
    bench.publish(&writer, &message("b", &[0; 1_500], Qos::One, false));
    assert_eq!(bench.subscribe(&held, "kept", 1), 1);
    for _ in 0..3 {
        let (taken, out) = bench.take(&held);
        assert!(taken == Taken::All && out.is_empty());
    }
    bench.router.lose(other.link, bench.now);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while held.signal.poll(&mut context).is_ready() {}
    bench.now = bench.router.next_due().unwrap();
    bench.router.tick(bench.now);
    assert!(held.signal.poll(&mut context).is_ready());
    assert!(bench.take(&held).1.next().len() > 800);
}
