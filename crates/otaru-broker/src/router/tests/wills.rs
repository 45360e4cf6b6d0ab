//! Wills that end connections which have wills.

use super::*;

#[test]
fn a_chain_of_wills_needs_no_more_stack_than_one() {
    const LINKS: u32 = 5_000;
    let chain = || {
        let mut bench = Bench::new(Settings::default());
        let mut held = Vec::new();
        for number in 0..LINKS {
            let mut admission = Admission::new(number);
            admission.bounds.quota.queued_bytes = 0;
            let [heard, said] = [number, number + 1].map(|number| format!("d/{number}"));
            let connect = Connect { will: Some(will(&said)), ..hello("c") };
            let one = bench.connect(&admission, &connect).unwrap();
            assert_eq!(bench.subscribe(&one, &heard, 1), 1);
            held.push(one);
        }
        let first = held.remove(0);
        bench.router.lose(first.link, bench.now);
        let mut holds = 1;
        while bench.router.next_due() == Some(bench.now) {
            bench.router.tick(bench.now);
            holds += 1;
        }
        assert!(holds > LINKS / 300, "others have their turn in between: {holds}");
        assert!(held.iter().all(|one| one.signal.ending() == Some(Reason::QuotaExceeded)));
        assert_eq!((bench.router.stats().sessions, bench.router.wills.len()), (0, 0));
    };
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    small.spawn(chain).unwrap().join().unwrap();
}

#[test]
fn much_that_is_due_at_once_is_done_in_pieces() {
    const COUNT: u32 = 2_000;
    let mut bench = Bench::new(Settings::default());
    for number in 0..COUNT {
        let connect = Connect { session_expiry: 5, will: Some(will("d")), ..hello("c") };
        let held = bench.connect(&Admission::new(number), &connect).unwrap();
        bench.router.lose(held.link, bench.now);
    }
    assert_eq!(bench.router.stats().sessions, COUNT as usize);
    bench.now += std::time::Duration::from_secs(5);
    let mut left = COUNT as usize;
    while left > 0 {
        let next = bench.router.tick(bench.now);
        let now = bench.router.stats().sessions;
        assert!(left - now <= 256, "{left} {now}");
        assert!(now == 0 || next.is_some_and(|next| next <= bench.now), "it goes on at once");
        left = now;
    }
}
