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
        assert!(held.iter().all(|one| one.signal.ending() == Some(Reason::QuotaExceeded)));
        assert_eq!((bench.router.stats().sessions, bench.router.wills.len()), (0, 0));
    };
    let small = std::thread::Builder::new().stack_size(512 * 1024);
    small.spawn(chain).unwrap().join().unwrap();
}
