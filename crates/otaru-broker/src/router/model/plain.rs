//! The model: lists, searched from end to end.

use std::collections::BTreeMap;

use crate::codec::topic;
use crate::router::message::OVERHEAD;

/// Message as a receiver hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) topic: &'static str,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) topic: &'static str,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// Second in which it is over.
    pub(super) expires: Option<u64>,
    /// Session of its publisher.
    pub(super) from: u64,
}

impl Published {
    pub(super) fn cost(&self) -> usize {
        OVERHEAD + self.topic.len() + self.payload.len()
    }

    fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Will {
    pub(super) message: Published,
    pub(super) lifetime: Option<u64>,
    pub(super) delay: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) qos: u8,
    pub(super) no_local: bool,
    pub(super) as_published: bool,
}

/// A message in a session.
#[derive(Debug, Clone)]
struct Copied {
    message: Published,
    qos: u8,
    retain: bool,
}

impl Copied {
    fn heard(&self) -> Heard {
        let (topic, payload) = (self.message.topic, self.message.payload.clone());
        Heard { topic, payload, qos: self.qos, retain: self.retain }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) owner: (u8, u8),
    pub(super) connected: bool,
    pub(super) expiry: u64,
    expires: Option<u64>,
    pub(super) will: Option<Will>,
    will_due: Option<u64>,
    wanted: BTreeMap<&'static str, Wanted>,
    queue: Vec<Copied>,
    under_way: Vec<Copied>,
    catching: Vec<(&'static str, Wanted)>,
}

/// All that a broker knows.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    numbers: u64,
    pub(super) sessions: Vec<Session>,
    retained: BTreeMap<&'static str, Published>,
    window: usize,
}

impl Model {
    pub(super) fn new(window: usize) -> Self {
        Self { window, ..Self::default() }
    }

    pub(super) fn session(&mut self, owner: (u8, u8)) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.owner == owner)
    }

    /// Returns whether there was a session.
    pub(super) fn connect(&mut self, owner: (u8, u8), clean: bool, expiry: u64, will: Option<Will>) -> bool {
        self.leave(owner);
        if clean {
            self.end_session(owner, true);
        }
        let present = self.session(owner).is_some();
        if !present {
            self.numbers += 1;
            self.sessions.push(Session {
                number: self.numbers,
                owner,
                connected: false,
                expiry,
                expires: None,
                will: None,
                will_due: None,
                wanted: BTreeMap::new(),
                queue: Vec::new(),
                under_way: Vec::new(),
                catching: Vec::new(),
            });
        }
        let session = self.session(owner).unwrap();
        let from = session.number;
        session.will = will.map(|will| Will { message: Published { from, ..will.message }, ..will });
        (session.connected, session.expiry, session.expires, session.will_due) = (true, expiry, None, None);
        present
    }

    pub(super) fn leave(&mut self, owner: (u8, u8)) {
        let now = self.now;
        let Some(session) = self.session(owner).filter(|session| session.connected) else { return };
        session.connected = false;
        session.queue.retain(|copied| copied.qos > 0);
        if session.expiry == 0 {
            return self.end_session(owner, true);
        }
        session.expires = Some(now + session.expiry);
        match session.will.as_ref().map(|will| will.delay) {
            Some(0) => self.publish_will(owner),
            Some(delay) => session.will_due = Some(now + delay),
            None => {}
        }
    }

    fn publish_will(&mut self, owner: (u8, u8)) {
        let will = self.session(owner).and_then(|session| session.will.take());
        if let Some(will) = will {
            let expires = will.lifetime.map(|lifetime| self.now + lifetime);
            self.publish(Published { expires, ..will.message });
        }
    }

    pub(super) fn end_session(&mut self, owner: (u8, u8), with_will: bool) {
        let Some(place) = self.sessions.iter().position(|session| session.owner == owner) else { return };
        let mut session = self.sessions.remove(place);
        if let Some(will) = session.will.take().filter(|_| with_will) {
            let expires = will.lifetime.map(|lifetime| self.now + lifetime);
            self.publish(Published { expires, ..will.message });
        }
    }

    pub(super) fn publish(&mut self, message: Published) {
        if message.retain {
            self.retained.remove(message.topic);
            if !message.payload.is_empty() {
                self.retained.insert(message.topic, message.clone());
            }
        }
        for session in &mut self.sessions {
            let matching: Vec<_> = session
                .wanted
                .iter()
                .filter(|(filter, wanted)| {
                    topic::matches(filter, message.topic)
                        && !(wanted.no_local && message.from == session.number)
                })
                .map(|(_, wanted)| wanted)
                .collect();
            let Some(qos) = matching.iter().map(|wanted| wanted.qos.min(message.qos)).max() else { continue };
            let retain = message.retain && matching.iter().any(|wanted| wanted.as_published);
            if session.connected || qos > 0 {
                session.queue.push(Copied { message: message.clone(), qos, retain });
            }
        }
    }

    /// Subscribes; `catch` as the retain handling says: 0 always, 1 if new, 2 never.
    pub(super) fn subscribe(&mut self, owner: (u8, u8), filter: &'static str, wanted: Wanted, catch: u8) {
        let session = self.session(owner).unwrap();
        let is_new = session.wanted.insert(filter, wanted).is_none();
        session.catching.retain(|(known, _)| *known != filter);
        if catch == 0 || (catch == 1 && is_new) {
            session.catching.push((filter, wanted));
        }
    }

    pub(super) fn unsubscribe(&mut self, owner: (u8, u8), filter: &str) -> bool {
        let session = self.session(owner).unwrap();
        session.catching.retain(|(known, _)| *known != filter);
        session.wanted.remove(filter).is_some()
    }

    pub(super) fn forget(&mut self, prefix: &str) {
        self.retained.retain(|topic, _| !topic.starts_with(prefix));
    }

    /// Lets time pass: what is due happens in its order, but as late as this.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        loop {
            let wills =
                self.sessions.iter().filter_map(|it| Some((it.will_due?, 0, it.number, "", it.owner)));
            let ends = self.sessions.iter().filter_map(|it| Some((it.expires?, 1, it.number, "", it.owner)));
            let lives = self.retained.values().filter_map(|it| Some((it.expires?, 2, 0, it.topic, (0, 0))));
            let next = wills.chain(ends).chain(lives).min();
            let Some((_, kind, _, topic, owner)) = next.filter(|(at, ..)| *at <= self.now) else { return };
            match kind {
                0 => {
                    self.session(owner).unwrap().will_due = None;
                    self.publish_will(owner);
                }
                1 => self.end_session(owner, true),
                _ => drop(self.retained.remove(topic)),
            }
        }
    }

    /// Returns what a client hears again that it had not acknowledged before its connection was lost.
    pub(super) fn hear_again(&mut self, owner: (u8, u8)) -> Vec<Heard> {
        self.session(owner).unwrap().under_way.iter().map(Copied::heard).collect()
    }

    /// Returns what a client hears now, until too much is under way.
    pub(super) fn hear(&mut self, owner: (u8, u8)) -> Vec<Heard> {
        let (now, window, retained) = (self.now, self.window, self.retained.clone());
        let session = self.session(owner).unwrap();
        let mut heard = Vec::new();
        let mut waiting = std::mem::take(&mut session.queue);
        let is_blocked = |session: &Session, qos| qos > 0 && session.under_way.len() >= window;
        while let Some(next) = waiting.first() {
            if is_blocked(session, next.qos) {
                session.queue = waiting;
                return heard;
            }
            let next = waiting.remove(0);
            if !next.message.is_over(now) {
                heard.push(next.heard());
                session.under_way.extend(Some(next).filter(|next| next.qos > 0));
            }
        }
        // What is retained is short here: nothing is ever blocked in the middle of it.
        for (filter, wanted) in std::mem::take(&mut session.catching) {
            for message in retained.values().filter(|message| topic::matches(filter, message.topic)) {
                let next =
                    Copied { message: message.clone(), qos: wanted.qos.min(message.qos), retain: true };
                if !(message.is_over(now) || (wanted.no_local && message.from == session.number)) {
                    heard.push(next.heard());
                    session.under_way.extend(Some(next).filter(|next| next.qos > 0));
                }
            }
        }
        heard
    }

    pub(super) fn acknowledge(&mut self, owner: (u8, u8)) {
        self.session(owner).unwrap().under_way.clear();
    }

    /// Returns the bytes that wait or are under way, and those that are retained.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let copies = self.sessions.iter().flat_map(|session| session.queue.iter().chain(&session.under_way));
        let queued = copies.map(|copied| copied.message.cost()).sum();
        (queued, self.retained.values().map(Published::cost).sum())
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.sessions.iter().map(|session| session.wanted.len()).sum()
    }

    pub(super) fn retained(&self) -> usize {
        self.retained.len()
    }

    pub(super) fn connections(&self) -> usize {
        self.sessions.iter().filter(|session| session.connected).count()
    }
}
