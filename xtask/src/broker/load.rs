//! The load: a fleet of bare connections, messages that are retained before it comes, and messages to each.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mqtt5_protocol::QoS;
use mqtt5_protocol::packet::puback::PubAckPacket;
use mqtt5_protocol::packet::publish::PublishPacket;
use mqtt5_protocol::packet::subscribe::SubscribePacket;

use super::wire::{CONNACK, PUBACK, PUBLISH, SUBACK, Wire};

/// A message's payload, in bytes: about an offer.
const PAYLOAD: usize = 300;
/// Connections that wait for their answers: fewer than Mosquitto's backlog of 100 holds, behind which each would wait for a second,
/// and fewer than the embedded broker's 64 sockets of an address before login.
const ARRIVING: usize = 50;
/// Messages of a publisher that wait for their acknowledgement.
const WINDOW: usize = 256;
/// Retained messages of one publisher: fewer bytes than a client of the embedded broker may retain.
const RETAINED_EACH: usize = 1_000;

/// Returns the topic that a client subscribes to.
pub(super) fn update(client: usize) -> String {
    format!("ESP32/ota/device-{client:05}/update")
}

/// Returns a topic that no client subscribes to.
pub(super) fn status(client: usize) -> String {
    format!("ESP32/ota/device-{client:05}/status")
}

/// Connections that have subscribed, each to a topic of its own.
pub(super) struct Fleet(Vec<Wire>);

impl Fleet {
    /// Connects so many, by so many threads at the same time. Each waits for the retained message of its topic, if they are `retained`.
    /// Returns how long that took.
    ///
    /// # Errors
    /// Returns an error if the broker refuses one, or sends something else.
    pub(super) fn connect(
        port: u16,
        clients: usize,
        retained: bool,
        threads: usize,
    ) -> Result<(Self, Duration)> {
        let (start, part) = (Instant::now(), clients.div_ceil(threads));
        let connecting = (0..clients).step_by(part).map(|first| {
            let numbers = first..clients.min(first + part);
            std::thread::spawn(move || connect(port, numbers, retained, ARRIVING / threads))
        });
        let connecting: Vec<_> = connecting.collect();
        let mut fleet = Vec::with_capacity(clients);
        for thread in connecting {
            match thread.join() {
                Ok(connected) => fleet.extend(connected?),
                Err(_) => bail!("a thread that connects panicked"),
            }
        }
        Ok((Self(fleet), start.elapsed()))
    }

    /// Sends a message at QoS 1 to each. Returns the time until the last has arrived.
    ///
    /// # Errors
    /// Returns an error if one does not arrive, or at another client.
    pub(super) fn message_to_each(&mut self, port: u16) -> Result<Duration> {
        let clients = self.0.len();
        let start = Instant::now();
        let messages = (0..clients).map(|client| (update(client), vec![b'x'; PAYLOAD]));
        let publisher = std::thread::spawn(move || publish(port, "publisher", messages, false));
        for (client, wire) in self.0.iter_mut().enumerate() {
            take(wire, client)?;
        }
        let arrived = start.elapsed();
        match publisher.join() {
            Ok(result) => result.context("the publisher")?,
            Err(_) => bail!("the publisher panicked"),
        }
        Ok(arrived)
    }
}

/// Connects clients of these numbers, so many of which wait for their answers at a time.
fn connect(port: u16, numbers: Range<usize>, retained: bool, arriving: usize) -> Result<Vec<Wire>> {
    let mut fleet: Vec<Wire> = Vec::with_capacity(numbers.len());
    let mut answered = 0;
    for client in numbers.clone() {
        let mut wire = Wire::open(port, &format!("device-{client:05}"))?;
        // Sent behind the CONNECT, as MQTT 5 allows (section 3.1.4), so that nobody waits for one answer at a time.
        wire.send(&SubscribePacket::new(1).add_filter(update(client), QoS::AtLeastOnce))?;
        fleet.push(wire);
        if fleet.len() - answered == arriving || fleet.len() == numbers.len() {
            for (client, wire) in numbers.clone().zip(&mut fleet).skip(answered) {
                wire.expect(CONNACK)?;
                wire.expect(SUBACK)?;
                if retained {
                    take(wire, client)?;
                }
            }
            answered = fleet.len();
        }
    }
    Ok(fleet)
}

/// Takes a client's message, and acknowledges it.
fn take(wire: &mut Wire, client: usize) -> Result<()> {
    let (body, topic) = (wire.expect(PUBLISH)?, update(client));
    ensure!(body.get(2..2 + topic.len()) == Some(topic.as_bytes()), "client {client} got another's message");
    ensure!(body.ends_with(&[b'x'; PAYLOAD]), "client {client} got another payload");
    let id = body.get(2 + topic.len()..4 + topic.len()).context("no packet identifier")?;
    wire.send(&PubAckPacket::new(u16::from_be_bytes([id[0], id[1]])))
}

/// Retains a message at the topic of each of so many clients.
///
/// # Errors
/// Returns an error if the broker turns one down.
pub(super) fn retain(port: u16, clients: usize, topic: fn(usize) -> String) -> Result<()> {
    for first in (0..clients).step_by(RETAINED_EACH) {
        let clients = first..clients.min(first + RETAINED_EACH);
        let messages = clients.map(|client| (topic(client), vec![b'x'; PAYLOAD]));
        publish(port, &format!("publisher-{first}"), messages, true).context("the publisher")?;
    }
    Ok(())
}

/// Publishes messages, each with its topic, at QoS 1, a window of them unacknowledged at a time.
///
/// # Errors
/// Returns an error if the broker turns one down.
pub(crate) fn publish(
    port: u16,
    id: &str,
    messages: impl Iterator<Item = (String, Vec<u8>)>,
    retain: bool,
) -> Result<()> {
    let mut wire = Wire::open(port, id)?;
    wire.expect(CONNACK)?;
    let mut waiting = 0;
    for (number, (topic, payload)) in messages.enumerate() {
        if waiting == WINDOW {
            wire.expect(PUBACK)?;
            waiting -= 1;
        }
        let packet = PublishPacket::new(topic, payload, QoS::AtLeastOnce).with_retain(retain);
        wire.send(&packet.with_packet_id(u16::try_from(number % usize::from(u16::MAX))? + 1))?;
        waiting += 1;
    }
    (0..waiting).try_for_each(|_| wire.expect(PUBACK).map(drop))
}
