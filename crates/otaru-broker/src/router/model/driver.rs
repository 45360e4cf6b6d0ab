//! Drives router and model with the same random steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::plain::{Heard, Model, Published, Wanted, Will};
use crate::codec::ack::{Ack, AckKind};
use crate::codec::connect::{self, Connect};
use crate::codec::frame::{Cut, Frame, cut};
use crate::codec::packet::Disconnect;
use crate::codec::publish::Publish;
use crate::codec::subscribe::{Subscribe, Unsubscribe};
use crate::outgoing::Outgoing;
use crate::policy::{Admission, ConnectRequest, Policy, Refusal};
use crate::reason::Reason;
use crate::router::{Link, Router, Taken};
use crate::settings::Settings;
use crate::signal::Signal;
use crate::version::{Qos, Version};

const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "/", "$x/b"];
const FILTERS: [&str; 10] = ["#", "+", "a/#", "a/+", "+/b", "a", "a/b", "$x/#", "+/+/c", "/"];
/// Messages that may be under way; more than all retained ones of all subscriptions.
const WINDOW: u16 = 70;

struct Open;

impl Policy for Open {
    type Identity = u8;

    async fn identify(&self, _: ConnectRequest) -> Result<Admission<u8>, Refusal> {
        Err(Reason::Unspecified.into())
    }

    fn may_publish(&self, _: &u8, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &u8, _: &str) -> bool {
        true
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect { clean: bool, v5: bool, expiry: u8, will: Option<(usize, u8, bool, u8, Option<u8>)> },
    Lose,
    Goodbye { with_will: bool, expiry: Option<u8> },
    Subscribe { filter: usize, options: u8 },
    Unsubscribe { filter: usize },
    Publish { topic: usize, qos: u8, retain: bool, empty: bool, lifetime: Option<u8> },
    Hear { acknowledge: bool },
    Pass(u8),
    End,
    Forget(usize),
}

/// A step, and the identity and client that takes it.
fn steps() -> impl Strategy<Value = Vec<((u8, u8), Step)>> {
    let lifetime = || prop::option::weighted(0.3, 1..20_u8);
    let will = (0..TOPICS.len(), 0..3_u8, any::<bool>(), prop_oneof![Just(0_u8), 1..30_u8], lifetime());
    let step = prop_oneof![
        6 => (any::<bool>(), any::<bool>(), prop_oneof![Just(0_u8), 1..40_u8], prop::option::of(will))
            .prop_map(|(clean, v5, expiry, will)| Step::Connect { clean, v5, expiry, will }),
        2 => Just(Step::Lose),
        2 => (any::<bool>(), prop::option::of(0..40_u8))
            .prop_map(|(with_will, expiry)| Step::Goodbye { with_will, expiry }),
        6 => (0..FILTERS.len(), 0..0x30_u8).prop_filter("QoS", |(_, options)| options & 3 < 3)
            .prop_map(|(filter, options)| Step::Subscribe { filter, options }),
        1 => (0..FILTERS.len()).prop_map(|filter| Step::Unsubscribe { filter }),
        8 => (0..TOPICS.len(), 0..3_u8, any::<bool>(), prop::bool::weighted(0.1), lifetime())
            .prop_map(|(topic, qos, retain, empty, lifetime)| Step::Publish { topic, qos, retain, empty, lifetime }),
        6 => any::<bool>().prop_map(|acknowledge| Step::Hear { acknowledge }),
        3 => (1..15_u8).prop_map(Step::Pass),
        1 => Just(Step::End),
        1 => (0..TOPICS.len()).prop_map(Step::Forget),
    ];
    prop::collection::vec(((0..2_u8, 0..3_u8), step), 1..120)
}

/// A connected client.
struct Client {
    link: Link,
    version: Version,
    signal: Arc<Signal>,
    /// Whether what is under way from before has not been sent on this connection.
    is_fresh: bool,
    /// Messages that it has not acknowledged.
    heard: Vec<(u16, u8)>,
}

struct Pair {
    router: Router<Open>,
    start: Instant,
    model: Model,
    clients: BTreeMap<(u8, u8), Client>,
    said: usize,
}

impl Pair {
    fn new() -> Self {
        let mut settings = Settings { send_maximum: WINDOW, ..Settings::default() };
        settings.in_all.connections = 6;
        let start = Instant::now();
        Self {
            router: Router::new(Arc::new(Open), settings, start),
            start,
            model: Model::new(WINDOW.into()),
            clients: BTreeMap::new(),
            said: 0,
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.model.now)
    }

    fn payload(&mut self) -> String {
        self.said += 1;
        self.said.to_string()
    }

    fn take(&mut self, who: (u8, u8), step: Step) {
        match step {
            Step::Connect { clean, v5, expiry, will } => self.connect(who, clean, v5, expiry, will),
            Step::Pass(seconds) => {
                self.model.pass(seconds.into());
                self.router.tick(self.now());
            }
            Step::End => {
                let ended = who.0;
                self.router.end(&[ended], Reason::NotAuthorized, false, self.now());
                for client in 0..3 {
                    self.model.end_session((ended, client), false);
                    if let Some(gone) = self.clients.remove(&(ended, client)) {
                        assert_eq!(gone.signal.ending(), Some(Reason::NotAuthorized));
                    }
                }
            }
            Step::Forget(topic) => {
                self.router.forget_retained(TOPICS[topic], self.now());
                self.model.forget(TOPICS[topic]);
            }
            _ if !self.clients.contains_key(&who) => {}
            Step::Lose => {
                let client = self.clients.remove(&who).unwrap();
                self.router.lose(client.link, self.now());
                self.model.leave(who);
            }
            Step::Goodbye { with_will, expiry } => self.goodbye(who, with_will, expiry),
            Step::Subscribe { filter, options } => self.subscribe(who, FILTERS[filter], options),
            Step::Unsubscribe { filter } => self.unsubscribe(who, FILTERS[filter]),
            Step::Publish { topic, qos, retain, empty, lifetime } => {
                let payload = if empty { String::new() } else { self.payload() };
                self.publish(who, TOPICS[topic], payload, qos, retain, lifetime);
            }
            Step::Hear { acknowledge } => self.hear(who, acknowledge),
        }
    }

    fn connect(
        &mut self,
        who: (u8, u8),
        clean: bool,
        v5: bool,
        expiry: u8,
        will: Option<(usize, u8, bool, u8, Option<u8>)>,
    ) {
        let payload = self.payload();
        let version = if v5 { Version::V5 } else { Version::V311 };
        let client = who.1.to_string();
        let will_topic = will.map_or("", |(topic, ..)| TOPICS[topic]);
        let will = will.map(|(topic, qos, retain, delay, lifetime)| connect::Will {
            topic: TOPICS[topic],
            payload: payload.as_bytes(),
            qos: Qos::of(qos).unwrap(),
            retain,
            delay: if v5 { delay.into() } else { 0 },
            expiry: lifetime.filter(|_| v5).map(u32::from),
            properties: Vec::new(),
        });
        let session_expiry = match v5 {
            true => expiry.into(),
            false if clean => 0,
            false => u32::MAX,
        };
        let wish = Connect {
            version,
            client: &client,
            username: None,
            password: None,
            clean,
            keep_alive: 60,
            will: will.clone(),
            session_expiry,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            problem_information: true,
            enhanced_authentication: false,
        };
        let mut admission = Admission::new(who.0);
        admission.bounds.connects.burst = 1_000_000;
        let signal = Arc::new(Signal::default());
        let (ticket, now) = (self.router.begin_login(), self.now());
        let accepted = self.router.arrive(&ticket, &admission, &wish, Arc::clone(&signal), now).unwrap();
        let known = will.map(|will| Will {
            message: Published {
                topic: will_topic,
                payload: payload.clone(),
                qos: will.qos as u8,
                retain: will.retain,
                expires: None,
                from: 0,
            },
            lifetime: will.expiry.map(u64::from),
            delay: will.delay.into(),
        });
        let expiry = u64::from(session_expiry).min(24 * 3600);
        let present = self.model.connect(who, clean, expiry, known);
        assert_eq!((accepted.session_present, accepted.session_expiry), (present, expiry as u32));
        let client = Client { link: accepted.link, version, signal, is_fresh: true, heard: Vec::new() };
        let before = self.clients.insert(who, client);
        assert_eq!(accepted.takeover, before.is_some());
        assert!(before.is_none_or(|before| before.signal.ending() == Some(Reason::SessionTakenOver)));
    }

    fn goodbye(&mut self, who: (u8, u8), with_will: bool, expiry: Option<u8>) {
        let now = self.now();
        let client = &self.clients[&who];
        let expiry = expiry.filter(|_| client.version == Version::V5).map(u32::from);
        let goodbye = Disconnect { with_will, session_expiry: expiry };
        let session = self.model.session(who).unwrap();
        let is_wrong = session.expiry == 0 && expiry.is_some_and(|expiry| expiry > 0);
        let answer = self.router.goodbye(client.link, goodbye, now);
        assert_eq!(answer, if is_wrong { Err(Reason::ProtocolError) } else { Ok(()) });
        if !is_wrong {
            session.expiry = expiry.map_or(session.expiry, u64::from);
            session.will = session.will.take().filter(|_| with_will);
        }
        self.router.lose(client.link, now);
        self.model.leave(who);
        self.clients.remove(&who);
    }

    fn subscribe(&mut self, who: (u8, u8), filter: &'static str, options: u8) {
        let client = &self.clients[&who];
        let options = if client.version == Version::V5 { options } else { options & 3 };
        let properties: &[u8] = if client.version == Version::V5 { &[0] } else { &[] };
        let body =
            [&[0, 1][..], properties, &[0, filter.len() as u8], filter.as_bytes(), &[options]].concat();
        let subscribe = Subscribe::parse(client.version, &body).unwrap();
        let (mut filters, mut codes) = (subscribe.filters(), Vec::new());
        let more = self.router.subscribe(client.link, &mut filters, subscribe.identifier, &mut codes);
        assert_eq!((more, codes), (Ok(false), vec![options & 3]));
        let wanted = Wanted { qos: options & 3, no_local: options & 4 != 0, as_published: options & 8 != 0 };
        self.model.subscribe(who, filter, wanted, options >> 4);
    }

    fn unsubscribe(&mut self, who: (u8, u8), filter: &'static str) {
        let client = &self.clients[&who];
        let properties: &[u8] = if client.version == Version::V5 { &[0] } else { &[] };
        let body = [&[0, 1][..], properties, &[0, filter.len() as u8], filter.as_bytes()].concat();
        let unsubscribe = Unsubscribe::parse(client.version, &body).unwrap();
        let mut codes = Vec::new();
        let more = self.router.unsubscribe(client.link, &mut unsubscribe.filters(), &mut codes);
        let existed = self.model.unsubscribe(who, filter);
        assert_eq!((more, codes), (Ok(false), vec![if existed { 0 } else { 0x11 }]));
    }

    fn publish(
        &mut self,
        who: (u8, u8),
        topic: &'static str,
        payload: String,
        qos: u8,
        retain: bool,
        lifetime: Option<u8>,
    ) {
        let (now, link, version) = (self.now(), self.clients[&who].link, self.clients[&who].version);
        let lifetime = lifetime.filter(|_| version == Version::V5);
        let publish = Publish {
            topic,
            payload: payload.as_bytes(),
            qos: Qos::of(qos).unwrap(),
            retain,
            id: if qos > 0 { 7 } else { 0 },
            expiry: lifetime.map(u32::from),
            properties: Vec::new(),
        };
        let mut out = Vec::new();
        self.router.publish(link, &publish, now, &mut out).unwrap();
        assert_eq!(out.first().copied(), [None, Some(0x40), Some(0x50)][usize::from(qos)]);
        if qos == 2 {
            let release = Ack { kind: AckKind::Pubrel, id: 7, refuses: false };
            self.router.acknowledge(link, release, &mut out).unwrap();
        }
        let from = self.model.session(who).unwrap().number;
        let expires = lifetime.map(|lifetime| self.model.now + u64::from(lifetime));
        self.model.publish(Published { topic, payload, qos, retain, expires, from });
    }

    /// Takes all that a client can be sent; acknowledges it or not.
    fn hear(&mut self, who: (u8, u8), acknowledge: bool) {
        let client = self.clients.get_mut(&who).unwrap();
        let mut wanted = Vec::new();
        if std::mem::take(&mut client.is_fresh) {
            wanted.extend(self.model.hear_again(who));
        }
        wanted.extend(self.model.hear(who));
        assert_eq!(self.listen(who), wanted);
        if acknowledge {
            self.acknowledge(who);
            self.model.acknowledge(who);
        }
    }

    fn listen(&mut self, who: (u8, u8)) -> Vec<Heard> {
        let now = self.now();
        let client = self.clients.get_mut(&who).unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut out = Outgoing::default();
            let taken = self.router.take(client.link, now, &mut out).unwrap();
            while !out.is_empty() {
                bytes.extend_from_slice(out.next());
                out.advance(out.next().len());
            }
            if taken == Taken::All {
                break;
            }
        }
        let mut heard = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(Cut::Whole(Frame { first, body, length })) = cut(rest, usize::MAX) else {
                panic!("half a packet")
            };
            rest = &rest[length..];
            let publish = Publish::parse(client.version, first, body).unwrap();
            let topic = TOPICS.iter().find(|topic| **topic == publish.topic).unwrap();
            let (payload, qos) = (String::from_utf8(publish.payload.to_vec()).unwrap(), publish.qos as u8);
            client.heard.extend(Some((publish.id, qos)).filter(|_| qos > 0));
            heard.push(Heard { topic, payload, qos, retain: publish.retain });
        }
        heard
    }

    fn acknowledge(&mut self, who: (u8, u8)) {
        let client = self.clients.get_mut(&who).unwrap();
        let mut out = Vec::new();
        for (id, qos) in client.heard.drain(..) {
            let kinds: &[AckKind] =
                if qos == 1 { &[AckKind::Puback] } else { &[AckKind::Pubrec, AckKind::Pubcomp] };
            for kind in kinds {
                self.router
                    .acknowledge(client.link, Ack { kind: *kind, id, refuses: false }, &mut out)
                    .unwrap();
            }
        }
    }

    fn compare(&self) {
        let (stats, (queued, retained)) = (self.router.stats(), self.model.bytes());
        assert_eq!((stats.queued_bytes, stats.retained_bytes), (queued, retained));
        assert_eq!(
            (stats.sessions, stats.connections),
            (self.model.sessions.len(), self.model.connections())
        );
        assert_eq!(
            (stats.subscriptions, stats.retained),
            (self.model.subscriptions(), self.model.retained())
        );
        assert_eq!(stats.dropped, 0);
    }

    /// Ends everything and holds that nothing is left.
    fn finish(mut self) {
        let now = self.now();
        let all = self.router.holders(&(Arc::new(|_: &_| true) as crate::router::Ended<_>));
        self.router.end(&all, Reason::NotAuthorized, false, now);
        assert_eq!(self.router.accounts.largest(crate::router::account::ALL), None);
        self.router.forget_retained("", now);
        for minutes in 1..100 {
            self.router.tick(now + Duration::from_secs(61 * minutes));
        }
        assert_eq!(self.router.stats(), crate::router::Stats::default());
        assert_eq!(self.router.next_due(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn router_and_model_are_the_same(steps in steps()) {
        let mut pair = Pair::new();
        for (who, step) in steps {
            pair.take(who, step);
            pair.compare();
        }
        pair.finish();
    }
}
