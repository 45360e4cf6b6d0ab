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
