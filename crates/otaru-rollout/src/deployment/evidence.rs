//! What a report proves about a deployment.
//!
//! A device names the deployment in its reports until it restarts, and then no longer. So what it says before the restart
//! counts if it names this attempt, and what it says after counts by the digests: that of the image it runs, or that of the
//! image it rolled back.

use otaru_format::status::{Code, Fault, UpdateState};

use super::{Deployment, Stage};
use crate::report::{Report, is_worth_retrying};

/// What is known after a report.
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
    let name = deployment.offer().map(|offer| offer.to_string());
    match &report.deployment {
        Some(named) if Some(named) == name.as_ref() => by_name(report),
        Some(_) => Evidence::Nothing,
        None => after_a_restart(deployment, report),
    }
}

fn is_rolled_back(deployment: &Deployment, report: &Report, force: bool) -> bool {
    let Some(failed) = report.rolled_back else { return false };
    if report.state != UpdateState::RolledBack || report.image == deployment.image || deployment.starts == 0 {
        return false;
    }
    let follows = deployment.stage == Stage::Updating;
    if failed.is_zero() {
        // It could not be read: only what the device was busy with can be meant.
        return follows && report.deployment.is_none();
    }
    // A device goes on telling of an image that it rolled back before the offer. Without force it would refuse the offer
    // for that, which is as bad; with force it will try, so it must be known to have begun.
    failed == deployment.image && (!force || follows)
}

fn by_name(report: &Report) -> Evidence {
    match report.state {
        UpdateState::Checking
        | UpdateState::Downloading
        | UpdateState::Retrying
        | UpdateState::Verifying
        | UpdateState::Restarting
        | UpdateState::Trial => Evidence::Follows,
        UpdateState::Failed => {
            let again = report.error.as_ref().is_none_or(|fault| is_worth_retrying(fault.code));
            if again { Evidence::Failed } else { Evidence::FailedForGood }
        }
        UpdateState::Refused => Evidence::Refused,
        UpdateState::Cancelled => Evidence::Cancelled,
        // Done, it says, and runs something else: the URL led to another file than the one that was meant.
        UpdateState::Confirmed | UpdateState::Current => Evidence::FailedForGood,
        _ => Evidence::Nothing,
    }
}

fn after_a_restart(deployment: &Deployment, report: &Report) -> Evidence {
    match report.state {
        UpdateState::Trial if report.image == deployment.image => Evidence::Follows,
        // Also while it goes on telling of an image that failed long ago.
        UpdateState::Idle | UpdateState::RolledBack if deployment.stage == Stage::Updating => {
            Evidence::Forgot
        }
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
