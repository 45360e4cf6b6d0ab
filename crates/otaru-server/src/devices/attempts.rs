//! Attempts at an update, in what happened to a device: one entry each, with its steps inside.

use otaru_api::DeviceEvent;
use otaru_format::digest::Digest;
use otaru_format::status::UpdateState;
use otaru_rollout::{DeviceId, RolloutId};
use serde_json::Value;

use crate::db::{Connection, DbError};
use crate::releases::naming;
use crate::rollouts::deployments;
use crate::rollouts::offer::rollout_in;

/// Subject of a report: a version, and its image where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// Version of the release, or by the image's own words.
    pub version: String,
    /// Digest of the image.
    pub image: Option<Digest>,
}

/// Returns what a device's report is about, which need not be what it runs: the image it rolled back, or the release that the
/// deployment in it brings. `None` where that is not known here.
pub fn target(tx: &Connection, device: &DeviceId, report: &Value) -> Result<Option<Aim>, DbError> {
    let state = UpdateState::of_name(report["state"].as_str().unwrap_or_default());
    if state == UpdateState::RolledBack
        && let Some(failed) = report["failed"]["version"].as_str()
    {
        let image = digest(&report["failed"]["image"]);
        let version = image.map(|image| naming::version_of(tx, image)).transpose()?.flatten();
        return Ok(Some(Aim { version: version.unwrap_or_else(|| failed.to_owned()), image }));
    }
    let rollout = report["deployment"].as_str().and_then(rollout_in);
    let Some(rollout) = rollout else { return Ok(None) };
    let rollout = RolloutId(rollout.cast_unsigned());
    let Some((deployment, _)) = deployments::readable(tx, rollout, device)? else { return Ok(None) };
    let image = deployment.image();
    Ok(naming::version_of(tx, image)?.map(|version| Aim { version, image: Some(image) }))
}

fn digest(text: &Value) -> Option<Digest> {
    text.as_str().and_then(|text| text.parse().ok())
}

/// Calls images in a report as their releases are called now: what a device says of itself may be the same for every build.
pub(super) fn name_images(tx: &Connection, report: &mut Value) -> Result<(), DbError> {
    let named = |image: &Value| match digest(image) {
        Some(image) => naming::version_of(tx, image),
        None => Ok(None),
    };
    if let Some(version) = named(&report["image"])? {
        report["version"] = version.into();
    }
    if let Some(version) = named(&report["failed"]["image"])? {
        report["failed"]["version"] = version.into();
    }
    if let Some(version) = named(&report["to_image"])? {
        report["to"] = version.into();
    }
    Ok(())
}

/// Whether an event is a report, and the state in it.
fn state(event: &DeviceEvent) -> Option<UpdateState> {
    (event.kind == "report").then(|| UpdateState::of_name(event.detail["state"].as_str().unwrap_or_default()))
}

/// Puts what belongs to one attempt into one entry, which says what its newest report does; the steps in it are from the oldest
/// on. `events` are from the newest on, and so are the entries, by their newest step.
pub(super) fn group(events: Vec<DeviceEvent>) -> Vec<DeviceEvent> {
    let mut entries: Vec<Vec<DeviceEvent>> = Vec::new();
    let mut open: Option<Open> = None;
    for event in events.into_iter().rev() {
        let state = state(&event);
        if let (Some(attempt), Some(state)) = (&open, state)
            && !attempt.goes_on_with(&event, state)
        {
            open = None;
        }
        let Some(attempt) = &mut open else {
            // What has an end and no beginning is an entry as well.
            if state.is_some_and(UpdateState::is_under_way) {
                open = Some(Open::by(&event, entries.len()));
            }
            entries.push(vec![event]);
            continue;
        };
        match state {
            Some(state) => {
                // What came and went meanwhile, such as in a restart, belongs to it.
                let meanwhile: Vec<_> = entries.drain(attempt.entry + 1..).collect();
                let (inside, after): (Vec<_>, Vec<_>) =
                    meanwhile.into_iter().partition(|entry| entry.iter().all(is_presence));
                if let Some(entry) = entries.get_mut(attempt.entry) {
                    entry.extend(inside.into_iter().flatten());
                    entry.push(event);
                }
                entries.extend(after);
                if state.is_final() {
                    open = None;
                }
            }
            None => entries.push(vec![event]),
        }
    }
    let mut entries: Vec<DeviceEvent> = entries.into_iter().filter_map(entry).collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.id));
    entries
}

/// An attempt that is not over.
struct Open {
    /// Number of the entry.
    entry: usize,
    deployment: Option<String>,
}

impl Open {
    fn by(event: &DeviceEvent, entry: usize) -> Self {
        Self { entry, deployment: event.detail["deployment"].as_str().map(str::to_owned) }
    }

    /// Whether a report is of the same attempt: a device forgets the deployment's name in the restart.
    fn goes_on_with(&self, event: &DeviceEvent, state: UpdateState) -> bool {
        let other = event.detail["deployment"].as_str();
        let same = other.is_none() || self.deployment.as_deref() == other;
        same && (state.is_under_way() || state.is_final())
    }
}

fn is_presence(event: &DeviceEvent) -> bool {
    matches!(event.kind.as_str(), "online" | "offline")
}

/// Makes one entry of the steps of an attempt, or of a single event.
fn entry(steps: Vec<DeviceEvent>) -> Option<DeviceEvent> {
    let mut entry = steps.last()?.clone();
    if steps.len() > 1 {
        // The report after the restart does not name what was asked for any more.
        let known = steps.iter().map(|step| &step.detail["to"]).find(|text| text.is_string());
        if let Some(to) = known
            && entry.detail["to"].is_null()
        {
            entry.detail["to"] = to.clone();
        }
        entry.steps = steps.into_iter().map(Into::into).collect();
    }
    Some(entry)
}

/// Says what a report tells, with the version it is about: `downloading 1.2.0 (runs 1.1.0)`. Where both are called alike, digits of
/// the images tell them apart.
pub fn told(detail: &Value) -> String {
    let text = |name: &str| detail[name].as_str().unwrap_or_default();
    let (state, runs) = (text("state"), text("version"));
    let words = state.replace('_', " ");
    let failed = &detail["failed"];
    let (about, about_image) = match (text("to"), failed["version"].as_str()) {
        ("", Some(version)) if state == "rolled_back" => (version, digest(&failed["image"])),
        (to, _) => (to, digest(&detail["to_image"])),
    };
    let of_update = UpdateState::of_name(state);
    let installs = of_update.is_under_way() || of_update.is_failure() || of_update == UpdateState::Cancelled;
    let alike = match (about_image, digest(&detail["image"])) {
        (Some(about_image), Some(image)) if about == runs && about_image != image => {
            Some((about_image, image))
        }
        _ => None,
    };
    if installs && let Some((to, image)) = alike {
        return format!("{words} {about} {} (runs {})", naming::short(to), naming::short(image));
    }
    match (installs, about, runs) {
        (_, "", "") => words,
        (true, about, runs) if !about.is_empty() && about != runs => format!("{words} {about} (runs {runs})"),
        // What is installed is not known here; what runs must not pass for it.
        (true, "", runs) if of_update != UpdateState::Trial => format!("{words} (runs {runs})"),
        (_, about, "") => format!("{words} {about}"),
        (_, _, runs) => format!("{words} {runs}"),
    }
}

#[cfg(test)]
mod tests {
    use otaru_rollout::Time;
    use serde_json::json;

    use super::*;

    fn event(id: i64, kind: &str, detail: Value) -> DeviceEvent {
        DeviceEvent { id, at: Time(id.unsigned_abs()).into(), kind: kind.into(), detail, steps: Vec::new() }
    }

    fn report(id: i64, state: &str, version: &str, deployment: Option<&str>) -> DeviceEvent {
        event(id, "report", json!({"state": state, "version": version, "deployment": deployment}))
    }

    fn shape(entries: &[DeviceEvent]) -> Vec<(i64, Vec<i64>)> {
        entries.iter().map(|entry| (entry.id, entry.steps.iter().map(|step| step.id).collect())).collect()
    }

    #[test]
    fn an_attempt_is_one_entry_with_the_restart_in_it() {
        let mut events = vec![
            event(1, "online", json!({})),
            report(2, "idle", "1.1.0", None),
            report(3, "checking", "1.1.0", Some("r1.1")),
            report(4, "downloading", "1.1.0", Some("r1.1")),
            event(5, "offline", json!({})),
            event(6, "tags", json!({})),
            event(7, "online", json!({})),
            report(8, "trial", "1.2.0", None),
            report(9, "confirmed", "1.2.0", None),
            event(10, "offline", json!({})),
        ];
        events[3].detail["to"] = json!("1.2.0");
        events.reverse();
        let entries = group(events);
        assert_eq!(
            shape(&entries),
            [(10, vec![]), (9, vec![3, 4, 5, 7, 8, 9]), (6, vec![]), (2, vec![]), (1, vec![])]
        );
        assert_eq!(entries[1].detail["to"], "1.2.0");
        assert_eq!(entries[1].detail["state"], "confirmed");
    }

    #[test]
    fn another_attempt_is_another_entry() {
        let mut events = vec![
            report(1, "downloading", "1.1.0", Some("r1.1")),
            report(2, "failed", "1.1.0", Some("r1.1")),
            report(3, "downloading", "1.1.0", Some("r1.2")),
            report(4, "downloading", "1.1.0", Some("r2.1")),
            report(5, "idle", "1.1.0", None),
            report(6, "current", "1.1.0", None),
        ];
        events.reverse();
        assert_eq!(
            shape(&group(events)),
            [(6, vec![]), (5, vec![]), (4, vec![]), (3, vec![]), (2, vec![1, 2])]
        );
    }

    #[test]
    fn both_versions_are_told() {
        for (detail, is) in [
            (
                json!({"state": "downloading", "version": "1.1.0", "to": "1.2.0"}),
                "downloading 1.2.0 (runs 1.1.0)",
            ),
            (json!({"state": "downloading", "version": "1.1.0"}), "downloading (runs 1.1.0)"),
            (json!({"state": "trial", "version": "1.2.0", "to": "1.2.0"}), "trial 1.2.0"),
            (json!({"state": "confirmed", "version": "1.2.0", "to": "1.2.0"}), "confirmed 1.2.0"),
            (json!({"state": "refused", "version": "1.1.0", "to": "1.2.0"}), "refused 1.2.0 (runs 1.1.0)"),
            (json!({"state": "failed", "version": "1.1.0"}), "failed (runs 1.1.0)"),
            (
                json!({"state": "rolled_back", "version": "1.1.0", "failed": {"version": "1.2.0"}}),
                "rolled back 1.2.0 (runs 1.1.0)",
            ),
            (
                json!({"state": "downloading", "version": "esp-idf: v4.4.3", "image": "11".repeat(32),
                       "to": "esp-idf: v4.4.3", "to_image": "22".repeat(32)}),
                "downloading esp-idf: v4.4.3 22222222 (runs 11111111)",
            ),
            (json!({"state": "idle", "version": "1.1.0"}), "idle 1.1.0"),
            (json!({"state": "unknown"}), "unknown"),
        ] {
            assert_eq!(told(&detail), is, "{detail}");
        }
    }
}
