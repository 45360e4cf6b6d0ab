//! Evidence: what a report proves about a deployment.
//!
//! A device names the deployment in its reports until it restarts, and then no longer. So what it says before the restart
//! counts if it names this attempt, and what it says after counts by the digests: that of the image it runs, or that of the
//! image it rolled back.

use otaru_format::status::{Code, Fault, UpdateState};

use super::row::Deployment;
use crate::report::{Report, is_worth_retrying};
use crate::stage::Stage;

/// Knowledge after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing new.
    Nothing,
    /// The device runs the image, and it is confirmed.
    Runs,
    /// The device follows the offer.
    Follows,
    /// The device has restarted and knows nothing of the offer any more.
    Forgot,
    /// The image did not reach the broker; the device will try it again.
    TriesAgain,
    /// The device was going to try the image again, and does something else now.
    Elsewhere,
    /// The device crashed, and may have done so for this offer: sent again, it would begin a new count of crashes.
    Crashed,
    /// This attempt failed; another might not.
    Failed,
    /// This attempt failed as every other would.
    FailedForGood,
    /// The device will not follow the offer.
    Refused,
    /// Somebody cancelled at the device.
    Cancelled,
    /// The image was started and found bad.
    RolledBack,
}

pub(super) fn weigh(deployment: &Deployment, report: &Report, force: bool) -> Evidence {
    if report.image == deployment.image && report.confirmed {
        return Evidence::Runs;
    }
    if is_rolled_back(deployment, report, force) {
        return Evidence::RolledBack;
    }
    if !deployment.is_active() {
        return Evidence::Nothing;
    }
    if tries_again(deployment, report) {
        return Evidence::TriesAgain;
    }
    let retrying = deployment.stage == Stage::Retrying;
    let name = deployment.offer().map(|offer| offer.to_string());
    match &report.deployment {
        // That was before it was silent.
        Some(named)
            if Some(named) == name.as_ref() && retrying && report.state == UpdateState::Restarting =>
        {
            Evidence::Nothing
        }
        Some(named) if Some(named) == name.as_ref() => by_name(report),
        Some(_) if retrying => Evidence::Elsewhere,
        Some(_) => Evidence::Nothing,
        None => after_a_restart(deployment, report),
    }
}

fn is_rolled_back(deployment: &Deployment, report: &Report, force: bool) -> bool {
    let Some(failed) = report.rolled_back else { return false };
    if report.state != UpdateState::RolledBack || report.image == deployment.image || deployment.starts == 0 {
        return false;
    }
    let follows = follows(deployment);
    if failed.is_zero() {
        // It could not be read: only what the device was busy with can be meant.
        return follows && report.deployment.is_none();
    }
    // A device goes on telling of an image that it rolled back before the offer. Without force it would refuse the offer
    // for that, which is as bad; with force, and after a loss of power, it will try, so it must be known to have begun.
    failed == deployment.image && (follows || !force && bars(report))
}

/// Whether the device would refuse the image that it went back from.
fn bars(report: &Report) -> bool {
    !matches!(report.error, Some(Fault { code: Code::PowerLoss | Code::Unreachable, .. }))
}

fn follows(deployment: &Deployment) -> bool {
    matches!(deployment.stage, Stage::Updating | Stage::Retrying)
}

fn has_code(report: &Report, code: Code) -> bool {
    report.error.as_ref().is_some_and(|fault| fault.code == code)
}

/// Whether this is the image that the device went back from; where that could not be read, it is what the device was busy with.
fn is_of(deployment: &Deployment, report: &Report) -> bool {
    let zero_is_ours = follows(deployment);
    report.rolled_back.is_some_and(|image| image == deployment.image || image.is_zero() && zero_is_ours)
}

fn tries_again(deployment: &Deployment, report: &Report) -> bool {
    report.state == UpdateState::Retrying
        && has_code(report, Code::Unreachable)
        && report.image != deployment.image
        && is_of(deployment, report)
}

fn by_name(report: &Report) -> Evidence {
    match report.state {
        UpdateState::Checking
        | UpdateState::Downloading
        | UpdateState::Retrying
        | UpdateState::Verifying
        | UpdateState::Restarting
        | UpdateState::Trial => Evidence::Follows,
        UpdateState::Failed => failed(report),
        UpdateState::Refused => Evidence::Refused,
        UpdateState::Cancelled => Evidence::Cancelled,
        // Done, it says, and runs something else: the URL led to another file than the one that was meant.
        UpdateState::Confirmed | UpdateState::Current => Evidence::FailedForGood,
        _ => Evidence::Nothing,
    }
}

fn failed(report: &Report) -> Evidence {
    let again = report.error.as_ref().is_none_or(|fault| is_worth_retrying(fault.code));
    if again { Evidence::Failed } else { Evidence::FailedForGood }
}

fn after_a_restart(deployment: &Deployment, report: &Report) -> Evidence {
    let retrying = deployment.stage == Stage::Retrying;
    match report.state {
        UpdateState::Trial if report.image == deployment.image => Evidence::Follows,
        UpdateState::Failed => failed_after_a_restart(deployment, report),
        // Also while it goes on telling of an image that failed long ago.
        UpdateState::Idle | UpdateState::RolledBack if follows(deployment) => Evidence::Forgot,
        UpdateState::Cancelled if retrying => Evidence::Cancelled,
        UpdateState::Refused | UpdateState::Confirmed | UpdateState::Current if retrying => {
            Evidence::Elsewhere
        }
        _ => Evidence::Nothing,
    }
}

fn failed_after_a_restart(deployment: &Deployment, report: &Report) -> Evidence {
    let busy = follows(deployment);
    let Some(fault) = &report.error else { return Evidence::Nothing };
    match fault.code {
        // It counts its trials, and tells of those that another command ended for as long as the record stands.
        Code::Unreachable if busy && is_of(deployment, report) && report.attempt > 0 => failed(report),
        Code::Unreachable if busy => Evidence::Forgot,
        Code::Crashed | Code::Interrupted if busy => failed(report),
        Code::Crashed | Code::Interrupted => Evidence::Crashed,
        _ if deployment.stage == Stage::Retrying => failed(report),
        _ => Evidence::Nothing,
    }
}

/// Why it failed, for people.
pub(super) fn reason(report: &Report, evidence: Evidence) -> Option<Fault<String>> {
    let done_but_other = matches!(report.state, UpdateState::Confirmed | UpdateState::Current);
    if evidence == Evidence::FailedForGood && done_but_other {
        let detail = format!("the device reports {}, but runs {}", report.state, report.image);
        return Some(Fault { code: Code::DigestMismatch, detail });
    }
    report.error.clone()
}
