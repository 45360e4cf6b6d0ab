//! Wills that end connections which have wills, and what wills and subscription identifiers cost.

use std::time::Duration;

use super::*;
use crate::codec::packet::Disconnect;
use crate::codec::subscribe::{Options, RetainHandling};

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

/// The broker stood still for longer than an account lingers that holds nothing.
#[test]
fn a_will_whose_account_is_idle_is_published() {
    let mut bench = Bench::new(Settings::default());
    let reader = bench.connect(&Admission::new(2), &hello("reader")).unwrap();
    bench.subscribe(&reader, "gone", 1);
    // It has held nothing before, and is to be looked at when the will has been due.
    let before = bench.connect(&Admission::new(1), &hello("before")).unwrap();
    bench.router.lose(before.link, bench.now);
    bench.now += Duration::from_secs(50);
    let left = Will { delay: 5, retain: true, ..will("gone") };
    let connect = Connect { will: Some(left), session_expiry: 5, ..hello("c") };
    let one = bench.connect(&Admission::new(1), &connect).unwrap();
    bench.router.lose(one.link, bench.now);
    bench.now += Duration::from_secs(600);
    bench.router.tick(bench.now);
    assert_eq!(bench.router.stats().retained, 1);
    assert!(!bench.take(&reader).1.is_empty());
    // What is kept of it is the identity's; with that, its account ends.
    bench.router.forget_retained("gone", bench.now);
    let accounts = bench.router.stats().accounts;
    for _ in 0..3 {
        bench.now += Duration::from_secs(61);
        bench.router.tick(bench.now);
    }
    assert_eq!(bench.router.stats().accounts, accounts - 1);
}

#[test]
fn wills_are_charged_for_while_they_wait() {
    let mut bench = Bench::new(Settings::default());
    let long = "x".repeat(30_000);
    let connect = |client| Connect { will: Some(will(&long)), session_expiry: 60, ..hello(client) };
    let mut admission = Admission::new(1);
    admission.bounds.quota.sessions = 16;
    let names: Vec<_> = (0..16).map(|number| number.to_string()).collect();
    let held: Vec<_> =
        names.iter().filter_map(|name| bench.connect(&admission, &connect(name)).ok()).collect();
    assert_eq!(held.len(), (256 << 10) / (30_000 + 128 + 4));
    assert_eq!(bench.router.stats().sessions, held.len(), "whoever is refused leaves nothing");
    assert_eq!(bench.router.stats().connections, held.len());
    // One that comes again has its will once.
    assert!(bench.connect(&admission, &Connect { clean: false, ..connect("0") }).is_ok());
    let with_will = |with_will| Disconnect { with_will, session_expiry: None };
    bench.router.goodbye(held[1].link, with_will(false), bench.now).unwrap();
    bench.router.lose(held[2].link, bench.now);
    assert_eq!(bench.router.stats().subscribed_bytes, (held.len() - 2) * (30_000 + 128 + 4));
    bench.router.end(&[1], Reason::NotAuthorized, false, bench.now);
    assert_eq!(bench.router.stats().subscribed_bytes, 0);
}

#[test]
fn subscription_identifiers_are_charged_for() {
    let mut bench = Bench::new(Settings::default());
    let writer = bench.connect(&Admission::new(1), &hello("writer")).unwrap();
    let reader = bench.connect(&Admission::new(2), &hello("reader")).unwrap();
    let options = Options {
        qos: Qos::One,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    };
    for (filter, identifier) in [("a/#", 7), ("a/+", 8), ("a/b", 9)] {
        let mut filters = [(filter, options)].into_iter();
        bench.router.subscribe(reader.link, &mut filters, identifier, &mut Vec::new()).unwrap();
    }
    bench.publish(&writer, &message("a/b", b"", Qos::One, false));
    assert_eq!(bench.router.stats().queued_bytes, 128 + 3 + 3 * 4);
}
