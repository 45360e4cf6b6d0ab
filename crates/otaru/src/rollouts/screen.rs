//! A rollout in words: in a line, or for a screen.

use console::style;
use otaru_rollout::{Outcome, Phase};
use serde_json::Value;

use super::counts::Counts;
use super::wait::Wait;
use crate::client::answer::{moment, phase_of};
use crate::client::http::Client;
use crate::client::releases::{marks, title};
use crate::moment::local;
use crate::output::Output;
use crate::ui;
use crate::ui::bar::bar;

/// Names the phase, in its colour.
pub(crate) fn phase(rollout: &Value) -> String {
    let text = style(ui::clean(rollout["phase"].as_str().unwrap_or("?")));
    match phase_of(rollout) {
        Some(Phase::Completed) => text.green(),
        Some(Phase::Stopped | Phase::Aborted { .. }) => text.red(),
        Some(Phase::Paused | Phase::Draft | Phase::Scheduled) => text.yellow(),
        Some(Phase::Running | Phase::Finishing) | None => text.cyan(),
    }
    .to_string()
}

/// Tells a rollout in a line.
pub(crate) fn headline(rollout: &Value) -> String {
    let name = ui::clean(rollout["name"].as_str().unwrap_or_default());
    format!("rollout {} \"{name}\"  {}  {}", rollout["id"], phase(rollout), Counts::all(rollout).words())
}

/// Prints a rollout, in a line or as JSON.
pub(crate) fn tell(rollout: &Value, output: Output) {
    if output.json {
        ui::line(&rollout.to_string());
    } else {
        ui::line(&headline(rollout));
    }
}

/// Tells a rollout in several lines: its waves, what it waits for, why devices failed.
pub(crate) fn screen(rollout: &Value) -> Vec<String> {
    let mut lines = vec![headline(rollout)];
    let release = &rollout["release"];
    lines.extend(release.is_object().then(|| {
        let brings = format!("  brings {} ({})", title(release), marks(release));
        style(brings).dim().to_string()
    }));
    let open = rollout["wave"].as_u64().unwrap_or(0);
    for (index, tally) in (0_u64..).zip(rollout["tallies"].as_array().into_iter().flatten()) {
        let counts = Counts::of(tally);
        let percent = u8::try_from((counts.good + counts.bad) * 100 / counts.total.max(1)).unwrap_or(100);
        let mark = if index <= open { " " } else { "·" };
        lines.push(format!("  {mark} wave {}  {}  {}", index + 1, bar(percent), counts.words()));
    }
    lines.extend(Wait::of(rollout).map(|wait| format!("    {}", style(wait.text).yellow())));
    lines.extend(end_line(rollout));
    lines.extend(stop_line(rollout).map(|text| format!("    {}", style(text).red())));
    for (code, count) in rollout["reasons"].as_object().into_iter().flatten() {
        lines.push(format!("    {}", style(format!("{count} failed: {}", ui::clean(code))).red()));
    }
    lines
}

/// Returns lines that tell when a rollout that was just made begins and ends, if it has such times.
pub(crate) fn times(rollout: &Value) -> Vec<String> {
    let scheduled = phase_of(rollout) == Some(Phase::Scheduled);
    let start = Wait::of(rollout).filter(|_| scheduled).map(|wait| format!("    {}", wait.text));
    start.into_iter().chain(end_line(rollout)).collect()
}

/// By when a rollout gives up devices that have not begun.
fn end_line(rollout: &Value) -> Option<String> {
    let open =
        !matches!(phase_of(rollout), Some(Phase::Finishing | Phase::Completed | Phase::Aborted { .. }));
    let end = moment(&rollout["spec"]["end_at"]).filter(|_| open)?;
    Some(format!("    devices that have not begun by {} are given up", local(end)))
}

/// Of a rollout that stopped by itself the numbers that decided, beside the rule.
pub(crate) fn stop_line(rollout: &Value) -> Option<String> {
    let (broke, rule) = (rollout["broke"].as_object()?, rollout["spec"]["stop"].as_object()?);
    let number = |name: &str| broke.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (bad, all, id) = (number("bad"), number("bad") + number("good"), &rollout["id"]);
    Some(format!(
        "stopped by itself: {} among {}, and the rule is {}% of at least {}; `otaru rollout resume {id}` goes on, `abort` gives up",
        ui::many(bad, "failure"),
        ui::many(all, "result"),
        rule.get("failures")?.as_f64()?,
        rule.get("minimum")?,
    ))
}

/// Some devices that failed, each with its reason.
pub(crate) async fn failures(client: &Client, rollout: &Value) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut outcomes: Vec<Outcome> =
        Outcome::ALL.into_iter().filter(|outcome| outcome.is_trouble()).collect();
    // A roll back says most about the image.
    outcomes.sort_by_key(|outcome| *outcome != Outcome::RolledBack);
    for outcome in outcomes {
        let standing = outcome.as_str();
        let path = format!("/rollouts/{}/deployments?standing={standing}", rollout["id"]);
        for deployment in client.list::<Value>(&path, 5).await? {
            let text = |name: &str| ui::clean(deployment[name].as_str().unwrap_or_default());
            let why = match text("error_code").as_str() {
                "" => String::new(),
                code => format!("  {code}: {}", text("error_detail")),
            };
            lines.push(format!("    {}  {}{why}", text("device"), standing.replace('_', " ")));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollouts::wait::tests::rollout;
    use serde_json::json;

    #[test]
    fn a_stop_tells_the_numbers_that_decided() {
        let mut stopped = rollout("stopped", json!("working"), json!({"failed": 3, "succeeded": 98}));
        stopped["broke"] = json!({"good": 17, "bad": 3});
        stopped["spec"]["stop"] = json!({"failures": 5.0, "minimum": 20});
        let line = stop_line(&stopped).unwrap();
        assert!(line.contains("3 failures among 20 results, and the rule is 5% of at least 20"), "{line}");
    }

    #[test]
    fn times_are_told_by_this_machines_clock_which_is_named() {
        let mut scheduled = rollout("scheduled", json!("working"), json!({}));
        scheduled["spec"] =
            json!({"start_at": "2999-01-31T22:00:00.000Z", "end_at": "2999-02-01T22:00:00.000Z"});
        let at = |text: &str| local(text.parse().unwrap());
        let lines = times(&scheduled);
        let start = format!(" days ({})", at("2999-01-31T22:00:00Z"));
        assert!(lines[0].starts_with("    it starts in ") && lines[0].ends_with(&start), "{lines:?}");
        let end = format!("    devices that have not begun by {} are given up", at("2999-02-01T22:00:00Z"));
        assert_eq!(lines[1..], [end]);
        scheduled["phase"] = json!("completed");
        assert!(times(&scheduled).is_empty());
        let soaks =
            rollout("running", json!({"soaking": "1970-01-01T00:00:00.000Z"}), json!({"succeeded": 1}));
        let wait = Wait::of(&soaks).unwrap();
        assert!(
            wait.text.starts_with("wave 1 is good; it soaks since ") && wait.text.ends_with(" days ago"),
            "{wait:?}"
        );
    }

    #[test]
    fn a_rollout_without_devices_is_not_done() {
        let none = rollout("running", json!("working"), json!({}));
        assert!(headline(&none).ends_with("no devices yet"), "{}", headline(&none));
    }

    #[test]
    fn a_rollout_is_told_in_a_line() {
        let rollout = json!({"id": 3, "name": "lamp 1.1.0", "phase": "stopped", "tallies": [
            {"succeeded": 2, "failed": 1, "active": 0, "ready": 1}, {"waiting": 4}]});
        let line = console::strip_ansi_codes(&headline(&rollout)).into_owned();
        assert_eq!(line, "rollout 3 \"lamp 1.1.0\"  stopped  2 of 8 done, 1 failed, 4 away");
    }
}
