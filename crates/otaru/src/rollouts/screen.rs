//! A rollout in words: in a line, or for a screen.

use console::style;
use otaru_api::{Answer, Deployment, DeploymentQuery, Rollout};
use otaru_rollout::{Outcome, Phase, Standing};

use super::counts::Counts;
use super::wait::Wait;
use crate::client::http::{Client, with_query};
use crate::client::releases::title_and_marks;
use crate::moment::local;
use crate::output::Output;
use crate::ui;
use crate::ui::bar::bar;

/// Names the phase, in its colour.
pub(crate) fn phase(rollout: &Rollout) -> String {
    let text = style(ui::clean(rollout.phase.as_str()));
    match rollout.phase.known() {
        Some(Phase::Completed) => text.green(),
        Some(Phase::Stopped | Phase::Aborted { .. }) => text.red(),
        Some(Phase::Paused | Phase::Draft | Phase::Scheduled) => text.yellow(),
        Some(Phase::Running | Phase::Finishing) | None => text.cyan(),
    }
    .to_string()
}

/// Tells a rollout in a line.
pub(crate) fn headline(rollout: &Rollout) -> String {
    let name = ui::clean(&rollout.name);
    format!("rollout {} \"{name}\"  {}  {}", rollout.id, phase(rollout), Counts::all(rollout).words())
}

/// Prints a rollout, in a line or as JSON.
pub(crate) fn tell(rollout: &Answer<Rollout>, output: Output) {
    if output.json {
        ui::line(&rollout.json.to_string());
    } else {
        ui::line(&headline(&rollout.value));
    }
}

/// Tells a rollout in several lines: its waves, what it waits for, why devices failed.
pub(crate) fn screen(rollout: &Rollout) -> Vec<String> {
    let mut lines = vec![headline(rollout)];
    lines.extend(rollout.release.as_ref().map(|release| {
        let brings = format!("  brings {}", title_and_marks(release));
        style(brings).dim().to_string()
    }));
    for (index, tally) in rollout.tallies.iter().enumerate() {
        let counts = Counts::of(tally);
        let ended = (counts.good() + counts.bad()) * 100;
        let percent = u8::try_from(ended / counts.total().max(1)).unwrap_or(100);
        let mark = if index <= rollout.wave { " " } else { "·" };
        lines.push(format!("  {mark} wave {}  {}  {}", index + 1, bar(percent), counts.words()));
    }
    lines.extend(Wait::of(rollout).map(|wait| format!("    {}", style(wait.text).yellow())));
    lines.extend(end_line(rollout));
    lines.extend(stop_line(rollout).map(|text| format!("    {}", style(text).red())));
    for (code, count) in rollout.reasons.iter().flatten() {
        lines.push(format!("    {}", style(format!("{count} failed: {}", ui::clean(code))).red()));
    }
    lines
}

/// When a rollout that was just made begins and ends, if it has such times.
pub(crate) fn times(rollout: &Rollout) -> Vec<String> {
    let scheduled = rollout.phase == Phase::Scheduled;
    let start = Wait::of(rollout).filter(|_| scheduled).map(|wait| format!("    {}", wait.text));
    start.into_iter().chain(end_line(rollout)).collect()
}

/// By when a rollout gives up devices that have not begun.
fn end_line(rollout: &Rollout) -> Option<String> {
    let over =
        matches!(rollout.phase.known(), Some(Phase::Finishing | Phase::Completed | Phase::Aborted { .. }));
    let end = rollout.spec.end_at.filter(|_| !over)?;
    Some(format!("    devices that have not begun by {} are given up", local(end)))
}

/// Of a rollout that stopped by itself the numbers that decided, beside the rule.
pub(crate) fn stop_line(rollout: &Rollout) -> Option<String> {
    let broke = rollout.broke?;
    let rule = match rollout.spec.stop.known() {
        Some(Some(rule)) => {
            format!(", and the rule is {}% of at least {}", f64::from(rule.failures), rule.minimum)
        }
        Some(None) => return None,
        // A newer server's rule says more than could be told here.
        None => String::new(),
    };
    Some(format!(
        "stopped by itself: {} among {}{rule}; `otaru rollout resume {}` goes on, `abort` gives up",
        ui::many(broke.bad.into(), "failure"),
        ui::many(broke.all().into(), "result"),
        rollout.id,
    ))
}

/// Some devices that failed, each with its reason.
pub(crate) async fn failures(client: &Client, rollout: &Rollout) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    let counts = Counts::all(rollout);
    // Nobody is asked for an outcome that nobody has: an older server may not know it.
    let some = |outcome: &Outcome| counts.count(Standing::Finished(*outcome)) > 0;
    let mut outcomes: Vec<Outcome> =
        Outcome::ALL.into_iter().filter(|outcome| outcome.is_trouble()).filter(some).collect();
    // A roll back says most about the image.
    outcomes.sort_by_key(|outcome| *outcome != Outcome::RolledBack);
    for outcome in outcomes {
        let standing = outcome.as_str();
        let query = DeploymentQuery { standing: Some(standing.to_owned()), error: None };
        let path = with_query(&format!("/rollouts/{}/deployments", rollout.id), &query);
        for deployment in client.list::<Deployment>(&path, 5).await? {
            let why =
                deployment.error_code.filter(|code| !code.is_empty()).map_or_else(String::new, |code| {
                    let detail = deployment.error_detail.unwrap_or_default();
                    format!("  {}: {}", ui::clean(&code), ui::clean(&detail))
                });
            let device = ui::clean(&deployment.device);
            lines.push(format!("    {device}  {}{why}", standing.replace('_', " ")));
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
        stopped.broke = serde_json::from_value(json!({"good": 17, "bad": 3})).unwrap();
        assert_eq!(stop_line(&stopped), None, "there is no rule");
        stopped.spec.stop = serde_json::from_value(json!({"failures": 5.0, "minimum": 20})).unwrap();
        let line = stop_line(&stopped).unwrap();
        assert!(line.contains("3 failures among 20 results, and the rule is 5% of at least 20;"), "{line}");
        stopped.spec.stop =
            serde_json::from_value(json!({"failures": 5.0, "minimum": 20, "moon": true})).unwrap();
        let line = stop_line(&stopped).unwrap();
        assert!(line.contains("3 failures among 20 results; `otaru rollout resume 3`"), "{line}");
    }

    #[test]
    fn times_are_told_by_this_machines_clock_which_is_named() {
        let mut scheduled = rollout("scheduled", json!("working"), json!({}));
        scheduled.spec.start_at = Some("2999-01-31T22:00:00.000Z".parse().unwrap());
        scheduled.spec.end_at = Some("2999-02-01T22:00:00.000Z".parse().unwrap());
        let at = |text: &str| local(text.parse().unwrap());
        let lines = times(&scheduled);
        let start = format!(" days ({})", at("2999-01-31T22:00:00Z"));
        assert!(lines[0].starts_with("    it starts in ") && lines[0].ends_with(&start), "{lines:?}");
        let end = format!("    devices that have not begun by {} are given up", at("2999-02-01T22:00:00Z"));
        assert_eq!(lines[1..], [end]);
        scheduled.phase = Phase::Completed.into();
        assert!(times(&scheduled).is_empty());
        scheduled.phase = Phase::Aborted { cancel: true }.into();
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
        let mut stopped = rollout(
            "stopped",
            json!("working"),
            json!({"succeeded": 2, "failed": 1, "active": 0, "ready": 1}),
        );
        stopped.tallies.push(serde_json::from_value(json!({"waiting": 4, "over_the_moon": 2})).unwrap());
        let line = console::strip_ansi_codes(&headline(&stopped)).into_owned();
        assert_eq!(line, "rollout 3 \"lamp\"  stopped  2 of 10 done, 1 failed, 4 away, 2 over the moon");
    }
}
