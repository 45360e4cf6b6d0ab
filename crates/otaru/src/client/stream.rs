//! Server-sent events (HTML standard, section 9.2) from the API, one JSON object each.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use otaru_api::{Answer, Event, EventQuery};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::error::refusal;
use super::http::{Client, with_query};

/// News from the stream.
#[derive(Debug)]
pub(crate) enum StreamItem {
    /// Something changed.
    Event(Answer<Event>),
    /// Some were missed, or the stream begins (again): read anew what you show.
    Resync,
    /// The stream broke; it is tried again.
    Lost(String),
    /// The server refuses whoever asks, such as with a token that was revoked: the stream is over.
    Refused(anyhow::Error),
}

/// Most events that may wait to be looked at.
const QUEUE: usize = 1_024;
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads an event. One in a form that is not known is kept as it was sent.
fn read(json: Value) -> Answer<Event> {
    Answer { value: Event::deserialize(&json).unwrap_or(Event::Other), json }
}

impl Client {
    /// Hears what changes from now on, of these kinds (`device,rollout`), until the receiver is dropped.
    pub(crate) fn events(&self, kinds: &str) -> mpsc::Receiver<StreamItem> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let query = EventQuery { kinds: Some(kinds.to_owned()) };
        let (client, path) = (self.clone(), with_query("/events", &query));
        // Not a task for blocking work: it would hold up the end of the program.
        std::thread::spawn(move || {
            while !sender.is_closed() {
                let Err(why) = client.follow(&path, &sender) else { return };
                if sender.blocking_send(StreamItem::Lost(format!("{why:#}"))).is_err() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        });
        receiver
    }

    /// Ends well when nobody listens any more, or the server refuses.
    fn follow(&self, path: &str, sender: &mpsc::Sender<StreamItem>) -> anyhow::Result<()> {
        let request = self.request(ureq::http::Method::GET, path).header("accept", "text/event-stream");
        let mut response = self.agent.run(request.body(())?).map_err(|error| self.explain(&error))?;
        let status = response.status();
        if !status.is_success() {
            let why = refusal(&mut response, self.server());
            if !matches!(status.as_u16(), 401 | 403) {
                return Err(why);
            }
            // A token that ended comes to no life again.
            let _ = sender.blocking_send(StreamItem::Refused(why));
            return Ok(());
        }
        if sender.blocking_send(StreamItem::Resync).is_err() {
            return Ok(());
        }
        let mut reader = BufReader::new(response.body_mut().with_config().limit(u64::MAX).reader());
        let (mut kind, mut data, mut line) = (String::new(), String::new(), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                anyhow::bail!("the server ended it");
            }
            let text = line.trim_end_matches(['\r', '\n']);
            if let Some(name) = text.strip_prefix("event:") {
                kind = name.trim().to_owned();
            } else if let Some(part) = text.strip_prefix("data:") {
                data.push_str(part.trim_start());
            } else if text.is_empty() && !(kind.is_empty() && data.is_empty()) {
                let told = match (kind.as_str(), serde_json::from_str(&data)) {
                    ("resync", _) => Some(StreamItem::Resync),
                    (_, Ok(json)) => Some(StreamItem::Event(read(json))),
                    // What a newer server says otherwise.
                    (_, Err(_)) => None,
                };
                kind.clear();
                data.clear();
                if told.is_some_and(|told| sender.blocking_send(told).is_err()) {
                    return Ok(());
                }
            }
        }
    }
}
