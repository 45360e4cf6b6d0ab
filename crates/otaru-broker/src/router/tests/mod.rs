//! Bounds of the router, reached without sockets.

mod accounts;
mod queues;
mod retained;
mod subscriptions;
mod wills;

use std::sync::Arc;
use std::time::Instant;

use crate::codec::connect::{Connect, Will};
use crate::codec::publish::Publish;
use crate::codec::subscribe::Subscribe;
use crate::outgoing::Outgoing;
use crate::policy::{Admission, ConnectRequest, Policy, Refusal};
use crate::reason::Reason;
use crate::router::{Link, Router, Taken};
use crate::settings::Settings;
use crate::signal::Signal;
use crate::version::{Qos, Version};

/// Policy that allows everything.
struct Open;

impl Policy for Open {
    type Identity = u32;

    async fn identify(&self, _: ConnectRequest) -> Result<Admission<u32>, Refusal> {
        Err(Reason::Unspecified.into())
    }

    fn may_publish(&self, _: &u32, _: &str) -> bool {
        true
    }

    fn may_subscribe(&self, _: &u32, _: &str) -> bool {
        true
    }
}

/// A router, at one moment.
struct Bench {
    router: Router<Open>,
    now: Instant,
}

/// A connection of version 5.
struct Held {
    link: Link,
    signal: Arc<Signal>,
}

/// Returns a CONNECT of version 5 whose session ends with its connection.
fn hello(client: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        client,
        username: None,
        password: None,
        clean: true,
        keep_alive: 60,
        will: None,
        session_expiry: 0,
        receive_maximum: u16::MAX,
        maximum_packet_size: None,
        problem_information: true,
        enhanced_authentication: false,
    }
}

fn will(topic: &str) -> Will<'_> {
    let (qos, properties) = (Qos::One, Vec::new());
    Will { topic, payload: b"over", qos, retain: false, delay: 0, expiry: None, properties }
}

fn message<'a>(topic: &'a str, payload: &'a [u8], qos: Qos, retain: bool) -> Publish<'a> {
    let id = if qos == Qos::Zero { 0 } else { 7 };
    Publish { topic, payload, qos, retain, id, expiry: None, properties: Vec::new() }
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { router: Router::new(Arc::new(Open), settings, now), now }
    }

    fn connect(&mut self, admission: &Admission<u32>, connect: &Connect<'_>) -> Result<Held, Reason> {
        let signal = Arc::new(Signal::default());
        let ticket = self.router.begin_login();
        let accepted = self.router.arrive(&ticket, admission, connect, Arc::clone(&signal), self.now)?;
        Ok(Held { link: accepted.link, signal })
    }

    /// Subscribes with these options; returns the code of the answer.
    fn subscribe(&mut self, held: &Held, filter: &str, options: u8) -> u8 {
        let length = u16::try_from(filter.len()).unwrap().to_be_bytes();
        let body = [&[0, 1, 0][..], &length, filter.as_bytes(), &[options]].concat();
        let subscribe = Subscribe::parse(Version::V5, &body).unwrap();
        let mut codes = Vec::new();
        let mut filters = subscribe.filters();
        self.router.subscribe(held.link, &mut filters, subscribe.identifier, &mut codes).unwrap();
        *codes.last().unwrap()
    }

    fn publish(&mut self, held: &Held, publish: &Publish<'_>) {
        self.router.publish(held.link, publish, self.now, &mut Vec::new()).unwrap();
    }

    /// Takes once what the connection can be sent.
    fn take(&mut self, held: &Held) -> (Taken, Outgoing) {
        let mut out = Outgoing::default();
        let taken = self.router.take(held.link, self.now, &mut out).unwrap();
        (taken, out)
    }
}
