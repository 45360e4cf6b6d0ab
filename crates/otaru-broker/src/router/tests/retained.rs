//! Retained messages that are passed over.

use super::*;

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
