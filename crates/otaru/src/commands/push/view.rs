//! Display of a push: a live table on a terminal, lines elsewhere, and a summary.

use console::style;
use otaru_format::status::Code;
use serde_json::json;

use super::source::Source;
use super::tracker::{Stage, Tracker};
use crate::fleet::changes::Teller;
use crate::fleet::table::{Mark, fitted};
use crate::fleet::{Change, Device, Fleet};
use crate::output::Output;
use crate::ui;
use crate::ui::live::Live;

/// The push's face.
pub(super) struct View {
    output: Output,
    live: Option<Live>,
    teller: Teller,
}

/// A push that nobody waits for.
pub(super) fn published(source: &Source, topics: &[String], retain: bool, deployment: &str, output: Output) {
    if output.json {
        ui::event(json!({
            "event": "published", "url": ui::without_login(&source.url), "topics": topics, "retained": retain, "deployment": deployment,
        }));
        return;
    }
    let kept = if retain { ", kept by the broker" } else { "" };
    for topic in topics {
        ui::line(&format!("Offered {} at {}{kept}", ui::without_login(&source.url), ui::clean(topic)));
    }
    ui::line("Not waiting for devices; --watch does, and `otaru watch` shows them.");
}

impl View {
    pub(super) fn new(output: Output) -> Self {
        Self { output, live: Live::new(output), teller: Teller::new(output) }
    }

    pub(super) fn begin(&mut self, source: &Source, deployment: &str, fleet: &Fleet, tracker: &Tracker) {
        let names: Vec<&str> = tracker.iter().map(|(name, _)| name).collect();
        if self.output.json {
            ui::event(json!({
                "event": "push", "url": ui::without_login(&source.url), "image": source.image.map(|image| image.to_string()),
                "deployment": deployment, "devices": names,
            }));
            return;
        }
        if let Some(file) = &source.file {
            self.say(&ui::clean(&file.about));
            file.remarks.iter().for_each(|remark| ui::warn(remark));
            if let Some(doubt) = file.doubt {
                ui::warn(doubt);
            }
        }
        self.say(&format!("from {}", ui::without_login(&source.url)));
        for name in names {
            let text = match fleet.get(name) {
                Some(Device { online: Some(true), .. }) => continue,
                Some(Device { online: Some(false), .. }) => {
                    "is offline; it gets the offer when it comes back"
                }
                _ => "has never been seen here; it gets the offer when it comes",
            };
            self.note(&format!("{name} {text}"));
        }
    }

    fn say(&mut self, text: &str) {
        match &mut self.live {
            Some(live) => live.print(text),
            None => ui::line(text),
        }
    }

    /// Something beside the devices.
    pub(super) fn note(&mut self, text: &str) {
        match &mut self.live {
            Some(live) => live.print(&format!("{} {}", style("note:").yellow().bold(), ui::clean(text))),
            None => ui::warn(text),
        }
    }

    pub(super) fn draw(&mut self, fleet: &Fleet, tracker: &Tracker) {
        if let Some(live) = self.live.as_mut().filter(|live| live.due()) {
            let size = live.size();
            live.draw(&rows(fleet, tracker, size));
        }
    }

    pub(super) fn change(&mut self, fleet: &Fleet, tracker: &Tracker, change: &Change) {
        let (Change::Report(name) | Change::Online(name, _) | Change::Unreadable(name, _)) = change else {
            return;
        };
        if self.live.is_none() && tracker.stage(name).is_some() {
            self.teller.tell(fleet, change);
        }
    }

    /// Tells what becomes of devices that nobody waits for any more.
    pub(super) fn given_up(&mut self, source: &Source, open: &[String], late: &[String]) {
        let names = |names: &[String]| match names.len() {
            0..=8 => names.join(", "),
            many => format!("{} and {} more", names[..8].join(", "), many - 8),
        };
        if self.output.json {
            let (cancelled, late) = (source.server.is_some(), late.to_vec());
            return ui::event(
                json!({"event": "given_up", "cancelled": cancelled, "devices": open, "too_late": late}),
            );
        }
        if source.server.is_none() {
            self.note(&format!(
                "{}: not waited for; `otaru cancel` ends what has not restarted",
                names(open)
            ));
        } else if !late.is_empty() {
            self.note(&format!("too late to cancel for {}: restarting into the new image", names(late)));
        }
    }

    /// The last picture and the summary.
    pub(super) fn end(&mut self, fleet: &Fleet, tracker: &Tracker, source: &Source, interrupted: bool) {
        if let Some(live) = &mut self.live {
            let size = live.size();
            live.draw(&rows(fleet, tracker, size));
        }
        self.live = None;
        if self.output.json {
            let devices: Vec<_> =
                tracker.iter().map(|(name, stage)| object(name, stage, interrupted)).collect();
            ui::event(json!({
                "event": "summary", "ok": tracker.succeeded(), "interrupted": interrupted, "devices": devices,
            }));
            return;
        }
        let head = summary(tracker);
        match tracker.succeeded() {
            true => ui::line(&format!("{} {head}", style("✓").green().bold())),
            false => ui::line(&format!("{} {head}", style("✗").red().bold())),
        }
        for (name, stage) in tracker.iter().filter(|(_, stage)| !stage.is_good()) {
            ui::line(&format!("  {}: {}", ui::clean(name), unfinished(stage, interrupted)));
        }
        if source.loopback && tracker.iter().any(|(name, _)| cannot_fetch(fleet, name)) {
            ui::warn(
                "the file was offered at an address of this machine alone, because --broker is one too; for boards \
                 elsewhere name the broker by this machine's network address, or give --advertise HOST",
            );
        }
    }
}

/// Whether a device says that it does not reach the file server.
fn cannot_fetch(fleet: &Fleet, name: &str) -> bool {
    let error = fleet.status(name).and_then(|status| status.error.as_ref());
    error.is_some_and(|error| matches!(error.code, Code::Connect | Code::Timeout | Code::HttpStatus))
}

/// Tells how many were updated, and how many had nothing to do.
fn summary(tracker: &Tracker) -> String {
    let count = |wanted: Stage| tracker.iter().filter(|(_, stage)| **stage == wanted).count();
    let (done, current, all) = (count(Stage::Done), count(Stage::Current), tracker.iter().count());
    let devices = if all == 1 { "device" } else { "devices" };
    let runs = if current == 1 { "runs" } else { "run" };
    match (done, current) {
        _ if all == 0 => "no device answered".to_owned(),
        (_, 0) => format!("{done} of {all} {devices} updated"),
        (0, _) => format!("{current} of {all} {devices} {runs} it already"),
        _ => format!("{done} of {all} {devices} updated, {current} {runs} it already"),
    }
}

fn unfinished(stage: &Stage, interrupted: bool) -> String {
    match stage {
        Stage::Working(state) if interrupted => format!("not waited for; its last word was {state}"),
        Stage::Waiting => "did not answer; is it online?".into(),
        Stage::Working(state) => format!("not done in time, still {state}"),
        Stage::Done => "done".into(),
        Stage::Current => "runs it already".into(),
        Stage::Later(state) => {
            format!("it went back, as the broker was not reached; {state}. `otaru watch` shows how that ends")
        }
        Stage::Failed(why) => why.clone(),
    }
}

fn object(name: &str, stage: &Stage, interrupted: bool) -> serde_json::Value {
    let outcome = match stage {
        Stage::Waiting => "no_answer",
        Stage::Working(_) => "unfinished",
        Stage::Done => "updated",
        Stage::Current => "current",
        Stage::Later(_) => "retrying",
        Stage::Failed(_) => "failed",
    };
    let detail = (*stage != Stage::Done).then(|| unfinished(stage, interrupted));
    json!({"device": name, "outcome": outcome, "detail": detail})
}

fn rows(fleet: &Fleet, tracker: &Tracker, (columns, high): (usize, usize)) -> Vec<String> {
    let nobody = Device::default();
    let rows = tracker.iter().map(|(name, stage)| {
        let device = fleet.get(name).unwrap_or(&nobody);
        let mark = match stage {
            Stage::Done | Stage::Current => Mark::Good,
            Stage::Failed(_) => Mark::Bad,
            _ => Mark::of(device),
        };
        (name, device, mark)
    });
    fitted(rows, columns - 1, high - 1)
}
