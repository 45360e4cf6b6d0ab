//! A fleet's changes as lines or JSON, each told once.

use std::collections::HashMap;

use otaru_format::status::Status;
use serde_json::json;

use super::{Change, Fleet, words};
use crate::output::Output;
use crate::ui::{clean, event, line};

/// Tells what changes, without repeating itself: progress counts in steps.
pub(crate) struct Teller {
    output: Output,
    /// Per cent of progress that are news.
    step: u8,
    /// Text before a line, and the width of names.
    layout: (&'static str, usize),
    told: HashMap<String, String>,
}

impl Teller {
    /// Nothing told yet.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, step: 10, layout: ("", 13), told: HashMap::new() }
    }

    /// The same among other lines: indented, and progress is no news.
    pub(crate) fn states_only(output: Output) -> Self {
        Self { step: u8::MAX, layout: ("   ", 9), ..Self::new(output) }
    }

    /// Tells a change, if it is news.
    pub(crate) fn tell(&mut self, fleet: &Fleet, change: &Change) {
        match change {
            Change::Online(name, online) => {
                self.say(name, json!({"event": "online", "online": online}), || {
                    if *online { "online".into() } else { "offline".into() }
                });
            }
            Change::Report(name) => {
                let Some(status) = fleet.status(name) else { return };
                let key = key(status, self.step);
                if self.told.get(name) == Some(&key) {
                    return;
                }
                self.told.insert(name.clone(), key);
                self.say(name, json!({"event": "status", "status": status}), || words::report(status));
            }
            Change::Forgotten(name) => {
                self.told.remove(name);
                self.say(name, json!({"event": "forgotten"}), || "its retained report was removed".into());
            }
            Change::Unreadable(name, why) => {
                self.say(name, json!({"event": "unreadable", "error": why}), || {
                    format!("sent a report that cannot be read: {}", clean(why))
                });
            }
        }
    }

    fn say(&self, device: &str, mut object: serde_json::Value, words: impl FnOnce() -> String) {
        if self.output.json {
            object["device"] = device.into();
            event(object);
        } else {
            let (lead, width) = self.layout;
            line(&format!("{lead}{:<width$} {}", clean(device), words()));
        }
    }
}

/// Returns those parts of a report that make it news: not uptime, nor a little progress.
fn key(status: &Status<String>, step: u8) -> String {
    let tenth = status.progress.map(|percent| percent / step);
    let error = status.error.as_ref().map(|error| (error.code, &error.detail));
    format!(
        "{:?} {tenth:?} {} {} {} {} {error:?} {:?}",
        status.state, status.attempt, status.image, status.slot, status.confirmed, status.deployment
    )
}
