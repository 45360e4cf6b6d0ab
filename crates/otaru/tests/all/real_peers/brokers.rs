//! Behaviour of a broker that Otaru relies on, the same on the embedded one, Mosquitto, NATS and RabbitMQ.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::{ConnectOptions, QoS, WillMessage};
use otaru_broker::client::{Incoming, Message, Mqtt};
use otaru_testing::LIMIT;

use crate::real_peers::broker::{Broker, Kind};
use crate::real_peers::device::{Bench, DEVICE};
use crate::real_peers::wire::{Wire, clean, kept};

/// Something that holds on a broker.
type Case = fn(&mut Broker);

/// Brokers on which a case does not hold, why not, and what holds there instead.
struct Exception {
    case: &'static str,
    kinds: &'static [Kind],
    why: &'static str,
    instead: Case,
}

const EXCEPTIONS: [Exception; 3] = [
    Exception {
        case: "retained_messages_come_with_a_subscription",
        kinds: &[Kind::RabbitMq],
        why: "RabbitMQ looks retained messages up by their topic only; a server asks devices to report there",
        instead: retained_messages_come_for_their_very_topic,
    },
    Exception {
        case: "expired_commands_are_not_delivered",
        kinds: &[Kind::Embedded311, Kind::Mosquitto311, Kind::Nats, Kind::RabbitMq],
        why: "3.1.1 has no message expiry; offers carry an order, and one that is behind is passed over",
        instead: commands_wait_however_old,
    },
    Exception {
        case: "one_wildcard_for_everything",
        kinds: &[Kind::Nats],
        why: "NATS counts its own topics, which begin with a dollar sign, to everything; Otaru has no such filter",
        instead: everything_has_the_brokers_own_topics,
    },
];

/// Runs a case against a broker, or what holds there instead.
fn run_case(broker: &mut Broker, name: &str, case: Case) {
    let kind = broker.kind();
    let excepted = |row: &&Exception| row.case == name && row.kinds.contains(&kind);
    match EXCEPTIONS.iter().find(excepted) {
        Some(exception) => {
            println!("{name} on {kind:?} is an exception: {}", exception.why);
            (exception.instead)(broker);
        }
        None => case(broker),
    }
}

/// Runs a case against a broker of its own, unless the broker is missing.
fn on(kind: Kind, name: &str, case: Case) {
    if let Some(mut broker) = Broker::start(kind) {
        run_case(&mut broker, name, case);
    }
}

/// Tests of each case on each broker, and the list of all cases.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        const CASES: &[(&str, Case)] = &[$((stringify!($case), $case)),*];

        $(
            mod $case {
                use super::{Kind, on};

                cases!(@on $case embedded: Embedded, embedded_311: Embedded311, mosquitto: Mosquitto,
                    mosquitto_311: Mosquitto311, nats: Nats);
            }
        )*
    };
    (@on $case:ident $($test:ident: $kind:ident),*) => { $(
        #[test]
        fn $test() {
            on(Kind::$kind, stringify!($case), super::$case);
        }
    )* };
}

/// Runs all cases on one RabbitMQ, each in a virtual host of its own: to start it takes longer than nearly all of them.
#[test]
fn rabbitmq() {
    let Some(mut broker) = Broker::rabbitmq_with_hosts(CASES.iter().map(|(name, _)| *name).collect()) else {
        return;
    };
    let mut failed = vec![];
    for (name, case) in CASES {
        let start = Instant::now();
        let run = || {
            broker.enter(name);
            run_case(&mut broker, name, *case);
        };
        let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
        println!("{name}: {} in {:.1?}", if passed { "ok" } else { "FAILED" }, start.elapsed());
        if !passed {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "on RabbitMQ these failed: {}", failed.join(", "));
}

cases!(
    retained_messages_come_with_a_subscription,
    an_empty_retained_message_clears,
    last_will_after_a_half_open_connection,
    goodbye_takes_the_will_along,
    the_same_client_id_takes_over,
    unacknowledged_messages_come_again,
    a_kept_session_queues_commands,
    a_clean_start_forgets,
    expired_commands_are_not_delivered,
    payloads_of_any_length,
    wildcards,
    one_wildcard_for_everything,
    two_hundred_clients_at_once,
    our_client_comes_back_after_a_restart,
    our_client_sends_many_offers_at_once,
    a_device_is_updated,
    a_device_that_was_away_gets_a_retained_command,
    a_device_finds_its_broker_again,
    a_device_reports_when_asked,
);

/// The topic of a device's commands.
const UPDATE: &str = "ESP32/ota/lamp/update";

fn message(topic: &str, payload: impl Into<Vec<u8>>) -> PublishPacket {
    PublishPacket::new(topic, payload.into(), QoS::AtLeastOnce)
}

fn retained_messages_come_with_a_subscription(broker: &mut Broker) {
    const DEVICES: usize = 300;
    let topic = |device: usize| format!("ESP32/ota/lamp-{device:04}/status");
    let mut publisher = Wire::open(broker, clean("publisher"));
    for device in 0..DEVICES {
        publisher.publish(message(&topic(device), format!("status {device}")).with_retain(true));
    }
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe("ESP32/ota/+/status");
    let mut heard = BTreeSet::new();
    for _ in 0..DEVICES {
        let message = subscriber.take();
        assert!(message.retain, "{message:?}");
        assert!(heard.insert((message.topic_name, message.payload.to_vec())), "twice");
    }
    let wanted = (0..DEVICES).map(|device| (topic(device), format!("status {device}").into_bytes()));
    assert_eq!(heard, wanted.collect());
    // What is published from now on is news, and not marked.
    publisher.publish(message(&topic(0), "new").with_retain(true));
    let news = subscriber.take();
    assert!(!news.retain && &news.payload[..] == b"new", "{news:?}");
    subscriber.is_silent();
}

/// A broker that gives them to wildcards after all needs no exception any more.
fn retained_messages_come_for_their_very_topic(broker: &mut Broker) {
    Wire::open(broker, clean("publisher")).publish(message(UPDATE, "x").with_retain(true));
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe("ESP32/ota/+/update");
    subscriber.is_silent();
    let mut subscriber = Wire::open(broker, clean("exact"));
    subscriber.subscribe(UPDATE);
    let kept = subscriber.take();
    assert!(kept.retain && &kept.payload[..] == b"x", "{kept:?}");
}

fn an_empty_retained_message_clears(broker: &mut Broker) {
    let mut publisher = Wire::open(broker, clean("publisher"));
    publisher.publish(message(UPDATE, "x").with_retain(true));
    publisher.publish(message(UPDATE, "").with_retain(true));
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe(UPDATE);
    subscriber.is_silent();
}

/// A device whose broker says that it is offline when it is gone.
fn with_will(id: &str) -> ConnectOptions {
    let mut will = WillMessage::new(format!("ESP32/ota/{id}/online"), "offline");
    (will.qos, will.retain) = (QoS::AtLeastOnce, true);
    clean(id).with_will(will)
}

fn last_will_after_a_half_open_connection(broker: &mut Broker) {
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe("ESP32/ota/+/online");
    // It stays open and says nothing any more, like a device that lost its power.
    let half_open = Wire::open(broker, with_will("lamp").with_keep_alive(Duration::from_secs(1)));
    let will = subscriber.take();
    assert_eq!((&will.topic_name[..], &will.payload[..]), ("ESP32/ota/lamp/online", &b"offline"[..]));
    drop(half_open);
    let mut late = Wire::open(broker, clean("late"));
    late.subscribe("ESP32/ota/lamp/online");
    assert!(late.take().retain);
}

fn goodbye_takes_the_will_along(broker: &mut Broker) {
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe("ESP32/ota/+/online");
    Wire::open(broker, with_will("lamp")).disconnect();
    subscriber.is_silent();
    drop(Wire::open(broker, with_will("lamp")));
    assert_eq!(&subscriber.take().payload[..], b"offline");
}

fn the_same_client_id_takes_over(broker: &mut Broker) {
    let mut first = Wire::open(broker, clean("lamp"));
    first.subscribe("elsewhere");
    let mut second = Wire::open(broker, clean("lamp"));
    first.is_closed();
    second.subscribe(UPDATE);
    Wire::open(broker, clean("publisher")).publish(message(UPDATE, "x"));
    assert_eq!(&second.take().payload[..], b"x");
    second.is_silent();
}

fn unacknowledged_messages_come_again(broker: &mut Broker) {
    let mut device = Wire::open(broker, kept("lamp"));
    device.subscribe(UPDATE);
    Wire::open(broker, clean("publisher")).publish(message(UPDATE, "x"));
    assert_eq!(&device.message().payload[..], b"x");
    drop(device);
    let mut device = Wire::open(broker, kept("lamp"));
    assert!(device.session_present);
    let again = device.take();
    assert!(again.dup && &again.payload[..] == b"x", "{again:?}");
    device.disconnect();
    let mut device = Wire::open(broker, kept("lamp"));
    assert!(device.session_present);
    device.is_silent();
}

/// A device that is away while its session is kept.
fn away(broker: &Broker) {
    let mut device = Wire::open(broker, kept("lamp"));
    device.subscribe(UPDATE);
    device.disconnect();
}

fn a_kept_session_queues_commands(broker: &mut Broker) {
    away(broker);
    let mut publisher = Wire::open(broker, clean("publisher"));
    for number in 0..20 {
        publisher.publish(message(UPDATE, format!("{number}")));
    }
    let mut device = Wire::open(broker, kept("lamp"));
    assert!(device.session_present);
    for number in 0..20 {
        assert_eq!(device.take().payload, format!("{number}"));
    }
    device.is_silent();
}

fn a_clean_start_forgets(broker: &mut Broker) {
    away(broker);
    let mut publisher = Wire::open(broker, clean("publisher"));
    publisher.publish(message(UPDATE, "x"));
    let mut device = Wire::open(broker, clean("lamp"));
    assert!(!device.session_present);
    publisher.publish(message(UPDATE, "y"));
    device.is_silent();
}

fn expired_commands_are_not_delivered(broker: &mut Broker) {
    away(broker);
    let mut publisher = Wire::open(broker, clean("publisher"));
    publisher.publish(message(UPDATE, "stale").with_message_expiry_interval(1));
    publisher.publish(message(UPDATE, "fresh").with_message_expiry_interval(600));
    publisher.publish(message(UPDATE, "for ever"));
    sleep(Duration::from_secs(3));
    let mut device = Wire::open(broker, kept("lamp"));
    let fresh = device.take();
    assert_eq!(&fresh.payload[..], b"fresh");
    // What is left of it: MQTT 5, section 3.3.2.3.3.
    let left = fresh.message_expiry_interval().expect("no expiry any more");
    assert!((300..=598).contains(&left), "{left} s are left");
    assert_eq!(&device.take().payload[..], b"for ever");
    device.is_silent();
}

fn commands_wait_however_old(broker: &mut Broker) {
    away(broker);
    Wire::open(broker, clean("publisher")).publish(message(UPDATE, "old").with_message_expiry_interval(1));
    sleep(Duration::from_secs(3));
    let mut device = Wire::open(broker, kept("lamp"));
    assert_eq!(&device.take().payload[..], b"old");
    device.is_silent();
}

fn payloads_of_any_length(broker: &mut Broker) {
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe(UPDATE);
    let mut publisher = Wire::open(broker, clean("publisher"));
    for len in [0, 1, 127, 128, 1024, 16_383, 16_384, 64 << 10, 200_000] {
        let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        publisher.publish(message(UPDATE, payload.clone()));
        assert!(subscriber.take().payload == payload, "{len} bytes");
    }
}

const TOPICS: [&str; 5] =
    ["ESP32/ota/a/status", "ESP32/ota/a/online", "ESP32/ota/b/status", "ESP32/ota/update", "other"];

/// Messages at all topics reach a subscription at those of these places, and no other.
#[track_caller]
fn hears_only(broker: &Broker, filter: &str, wanted: &[usize]) {
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe(filter);
    let mut publisher = Wire::open(broker, clean("publisher"));
    for topic in TOPICS {
        publisher.publish(message(topic, "x"));
    }
    publisher.disconnect();
    let mut heard: Vec<_> = wanted.iter().map(|_| subscriber.take().topic_name).collect();
    subscriber.is_silent();
    subscriber.disconnect();
    heard.sort();
    let mut wanted: Vec<_> = wanted.iter().map(|at| TOPICS[*at]).collect();
    wanted.sort_unstable();
    assert_eq!(heard, wanted, "{filter}");
}

fn wildcards(broker: &mut Broker) {
    for (filter, wanted) in [
        ("ESP32/ota/+/status", &[0, 2][..]),
        ("ESP32/ota/a/#", &[0, 1]),
        ("ESP32/#", &[0, 1, 2, 3]),
        ("+/+/update", &[3]),
        ("+", &[4]),
        ("ESP32/ota/+/nothing", &[]),
    ] {
        hears_only(broker, filter, wanted);
    }
}

fn one_wildcard_for_everything(broker: &mut Broker) {
    hears_only(broker, "#", &[0, 1, 2, 3, 4]);
}

fn everything_has_the_brokers_own_topics(broker: &mut Broker) {
    let mut subscriber = Wire::open(broker, clean("subscriber"));
    subscriber.subscribe("#");
    // A session of its own is news on such a topic.
    let _publisher = Wire::open(broker, clean("publisher"));
    assert!(subscriber.take().topic_name.starts_with('$'));
}

fn two_hundred_clients_at_once(broker: &mut Broker) {
    const CLIENTS: usize = 200;
    let topic = |client: usize| format!("ESP32/ota/lamp-{client}/update");
    let broker = &*broker;
    let mut devices = std::thread::scope(|scope| {
        let open = |client: usize| {
            let mut device = Wire::open(broker, clean(&format!("lamp-{client}")));
            device.subscribe(&topic(client));
            device
        };
        let opening: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || open(client))).collect();
        opening.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut publisher = Wire::open(broker, clean("publisher"));
    for client in 0..CLIENTS {
        publisher.publish(message(&topic(client), format!("{client}")));
    }
    for (client, device) in devices.iter_mut().enumerate() {
        let message = device.take();
        assert_eq!(
            (message.topic_name, &message.payload[..]),
            (topic(client), format!("{client}").as_bytes())
        );
    }
    devices[0].is_silent();
}

/// A runtime for the server's own client. In its time a broker may have to start again, which has a limit of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(2 * LIMIT, work).await.expect("it takes too long") })
}

async fn next_message(mqtt: &mut Mqtt) -> Message {
    loop {
        if let Incoming::Message(message) = mqtt.next().await {
            return message;
        }
    }
}

fn our_client_comes_back_after_a_restart(broker: &mut Broker) {
    block_on(async {
        let mut mqtt = Mqtt::connect(&broker.address(), "test").await.unwrap();
        mqtt.subscribe("ESP32/ota/+/status").await.unwrap();
        mqtt.publish("ESP32/ota/a/status", "before", false).await.unwrap();
        assert_eq!(next_message(&mut mqtt).await.payload, b"before");
        broker.kill();
        while !matches!(mqtt.next().await, Incoming::Lost(_)) {}
        mqtt.publish("ESP32/ota/a/status", "nobody has it", false).await.unwrap_err();
        broker.begin();
        while !matches!(mqtt.next().await, Incoming::Back) {}
        // Subscribing again follows; nothing tells when it is done.
        let mut publisher = Wire::open(broker, clean("publisher"));
        let again = async {
            loop {
                publisher.publish(message("ESP32/ota/b/status", "after"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let heard = tokio::select! {
            message = next_message(&mut mqtt) => message,
            () = again => unreachable!(),
        };
        assert_eq!((&heard.topic[..], &heard.payload[..]), ("ESP32/ota/b/status", &b"after"[..]));
        mqtt.publish("ESP32/ota/a/status", "and speaks", false).await.unwrap();
    });
}

fn our_client_sends_many_offers_at_once(broker: &mut Broker) {
    const OFFERS: usize = 5_000;
    /// As many as the outbox has under way.
    const AT_ONCE: usize = 256;
    let topic = |device: usize| format!("ESP32/ota/lamp-{device}/update");
    block_on(async {
        let url = broker.address();
        let mut hearing = Mqtt::connect(&url, "hearing").await.unwrap();
        hearing.subscribe("ESP32/ota/+/update").await.unwrap();
        let sending = Mqtt::connect(&url, "sending").await.unwrap();
        let start = Instant::now();
        let mut under_way = tokio::task::JoinSet::new();
        let expiry = Some(Duration::from_secs(60));
        for device in 0..OFFERS {
            if under_way.len() == AT_ONCE {
                under_way.join_next().await.unwrap().unwrap();
            }
            let publisher = sending.publisher();
            under_way.spawn(async move {
                publisher.publish(&topic(device), &[b'x'; 300], false, expiry).await.unwrap();
            });
        }
        under_way.join_all().await;
        eprintln!("{:.0} offers a second", OFFERS as f64 / start.elapsed().as_secs_f64());
        let mut heard = BTreeSet::new();
        while heard.len() < OFFERS {
            heard.insert(next_message(&mut hearing).await.topic);
        }
        assert_eq!(heard, (0..OFFERS).map(topic).collect());
    });
}

fn a_device_is_updated(broker: &mut Broker) {
    let bench = Bench::new(256 << 10, 20.0);
    let (web, device) = (bench.own(), bench.device(broker));
    broker.offer(&web.url("new.bin"));
    bench.ends_on_the_new_image(broker);
    device.interrupt();
}

/// The topic of the device's own commands.
fn own_update() -> String {
    format!("ESP32/ota/{DEVICE}/update")
}

fn a_device_that_was_away_gets_a_retained_command(broker: &mut Broker) {
    let bench = Bench::new(256 << 10, 20.0);
    let web = bench.own();
    broker.publish(&own_update(), &["-q", "1", "-r", "-m", &web.url("new.bin")]);
    let device = bench.devices(broker, 1);
    bench.ends_on_the_new_image(broker);
    device.interrupt();
}

fn a_device_finds_its_broker_again(broker: &mut Broker) {
    let bench = Bench::new(256 << 10, 20.0);
    let (web, device) = (bench.own(), bench.device(broker));
    broker.kill();
    broker.begin();
    // Nothing tells here when it is there again.
    broker.publish(&own_update(), &["-q", "1", "-r", "-m", &web.url("new.bin")]);
    bench.ends_on_the_new_image(broker);
    device.interrupt();
}

fn a_device_reports_when_asked(broker: &mut Broker) {
    let bench = Bench::new(256 << 10, 20.0);
    let device = bench.device(broker);
    let first = broker.report(DEVICE, |status| status.n.is_some());
    broker.send(DEVICE, br#"{"report":true,"spread":0}"#);
    broker.report(DEVICE, |status| {
        (status.epoch, status.boots) == (first.epoch, first.boots) && status.n > first.n
    });
    device.interrupt();
}
