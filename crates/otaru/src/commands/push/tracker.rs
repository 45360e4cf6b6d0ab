//! Progress of each device in one push. No I/O.
//!
//! A report belongs to the push if it names its deployment. After the restart the new image no longer knows
//! the deployment: from then on the reports of a device that had named it count, and so does an image with
//! the digest that was pushed.

use std::collections::{BTreeMap, BTreeSet};

use otaru_format::digest::Digest;
use otaru_format::status::{Status, UpdateState};

use crate::fleet::words;

/// Stage of a device in the push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has not answered.
    Waiting,
    /// It works on it; its state in words.
    Working(String),
    /// It runs the firmware, confirmed.
    Done,
    /// It ran the firmware already.
    Current,
    /// The firmware did not reach the broker: the device went back and will try again by itself, for days.
    Later(String),
    /// It does not, for this reason.
    Failed(String),
}

impl Stage {
    /// Whether nothing more is to be waited for.
    pub(crate) fn is_final(&self) -> bool {
        self.is_good() || matches!(self, Self::Later(_) | Self::Failed(_))
    }

    /// Whether it runs the firmware.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Done | Self::Current)
    }
}

/// One push to several devices.
#[derive(Debug)]
pub(crate) struct Tracker {
    deployment: String,
    image: Option<Digest>,
    /// Whether devices that take the offer unasked belong to it.
    open: bool,
    devices: BTreeMap<String, Stage>,
    /// Devices that were seen to restart for it.
    restarted: BTreeSet<String>,
}

impl Tracker {
    /// A push of `image`, if known, to these devices; `open` lets others join.
    pub(crate) fn new(
        deployment: &str,
        image: Option<Digest>,
        targets: impl IntoIterator<Item = String>,
        open: bool,
    ) -> Self {
        let devices = targets.into_iter().map(|name| (name, Stage::Waiting)).collect();
        Self { deployment: deployment.to_owned(), image, open, devices, restarted: BTreeSet::new() }
    }

    /// Takes a device's report, which came after the push began.
    pub(crate) fn report(&mut self, name: &str, status: &Status<String>) {
        let ours = status.deployment.as_deref() == Some(&self.deployment);
        if self.open && ours && !self.devices.contains_key(name) {
            self.devices.insert(name.to_owned(), Stage::Waiting);
        }
        let Some(stage) =
            self.devices.get_mut(name).filter(|stage| !stage.is_good() && !matches!(stage, Stage::Failed(_)))
        else {
            return;
        };
        let arrived = self.image == Some(status.image) && status.confirmed;
        let engaged = matches!(stage, Stage::Working(_) | Stage::Later(_));
        let words = words::state(status);
        if (ours || engaged) && matches!(status.state, UpdateState::Restarting | UpdateState::Trial) {
            self.restarted.insert(name.to_owned());
        }
        *stage = match (&status.deployment, status.state) {
            _ if !ours && arrived && status.state == UpdateState::Confirmed => Stage::Done,
            (Some(other), _) if !ours && engaged => {
                Stage::Failed(format!("another command took its place ({})", crate::ui::clean(other)))
            }
            _ if !ours && !engaged => return,
            (_, UpdateState::Confirmed | UpdateState::Current) => match self.image {
                Some(image) if image != status.image => Stage::Failed("it confirmed another image".into()),
                // Whoever restarted for it got there with this push, and is told so once more.
                _ if status.state == UpdateState::Current && !self.restarted.contains(name) => Stage::Current,
                _ => Stage::Done,
            },
            _ if status.next_trial().is_some() => Stage::Later(words),
            (_, state) if state.is_final() => {
                Stage::Failed(words::fault(status).map_or(words.clone(), |fault| format!("{words}: {fault}")))
            }
            _ => Stage::Working(words),
        };
    }

    /// Whether every device is done.
    pub(crate) fn finished(&self) -> bool {
        self.devices.values().all(Stage::is_final)
    }

    /// Whether every device runs the firmware.
    pub(crate) fn succeeded(&self) -> bool {
        !self.devices.is_empty() && self.devices.values().all(Stage::is_good)
    }

    /// A device's stage, if it belongs to the push.
    pub(crate) fn stage(&self, name: &str) -> Option<&Stage> {
        self.devices.get(name)
    }

    /// All devices, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Stage)> {
        self.devices.iter().map(|(name, stage)| (name.as_str(), stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::status;
    use otaru_format::status::{Code, FailedImage, Fault};

    fn image() -> Digest {
        Digest::of(b"2")
    }

    fn tracker() -> Tracker {
        Tracker::new("d1", Some(image()), ["x".to_owned()], false)
    }

    fn told(state: UpdateState, version: &str, deployment: Option<&str>) -> Status<String> {
        Status { deployment: deployment.map(str::to_owned), ..status("x", state, version) }
    }

    #[test]
    fn a_good_update_ends_with_the_new_image_confirmed() {
        let mut tracker = tracker();
        tracker.report("x", &told(UpdateState::Downloading, "1", Some("d1")));
        assert_eq!(tracker.stage("x"), Some(&Stage::Working("downloading".into())));
        tracker.report("x", &Status { confirmed: false, ..told(UpdateState::Trial, "2", None) });
        assert!(!tracker.finished());
        tracker.report("x", &told(UpdateState::Confirmed, "2", None));
        assert!(tracker.finished() && tracker.succeeded());
    }

    #[test]
    fn only_who_restarted_for_it_was_updated() {
        // Of a URL nothing is known before a device has looked at it.
        let mut tracker = Tracker::new("d1", None, ["x".to_owned(), "y".to_owned()], false);
        for name in ["x", "y"] {
            tracker.report(name, &told(UpdateState::Checking, "2", Some("d1")));
        }
        tracker.report("y", &told(UpdateState::Restarting, "2", Some("d1")));
        for name in ["x", "y"] {
            tracker.report(name, &told(UpdateState::Current, "2", Some("d1")));
        }
        assert_eq!((tracker.stage("x"), tracker.stage("y")), (Some(&Stage::Current), Some(&Stage::Done)));
    }

    #[test]
    fn what_was_before_the_push_does_not_count() {
        let mut tracker = tracker();
        for (state, deployment) in [
            (UpdateState::Confirmed, None),
            (UpdateState::RolledBack, None),
            (UpdateState::Failed, Some("d0")),
            (UpdateState::Current, Some("d0")),
        ] {
            tracker.report("x", &told(state, "1", deployment));
            assert_eq!(tracker.stage("x"), Some(&Stage::Waiting), "{state}");
        }
        tracker.report("y", &told(UpdateState::Failed, "1", Some("d1")));
        assert_eq!(tracker.stage("y"), None);
    }

    #[test]
    fn a_roll_back_after_the_restart_is_a_failure_with_its_reason() {
        let mut tracker = tracker();
        tracker.report("x", &told(UpdateState::Restarting, "1", Some("d1")));
        let mut back = told(UpdateState::RolledBack, "1", None);
        back.error = Some(Fault { code: Code::Panic, detail: "at main.rs".into() });
        back.failed = Some(FailedImage { version: "2".into(), image: image(), boots: 3 });
        tracker.report("x", &back);
        let failed = Stage::Failed("rolled back: image 2, panic: at main.rs".into());
        assert_eq!(tracker.stage("x"), Some(&failed));
        assert!(tracker.finished() && !tracker.succeeded());
        tracker.report("x", &told(UpdateState::Confirmed, "2", None));
        assert_eq!(tracker.stage("x"), Some(&failed));
    }

    #[test]
    fn who_will_try_again_is_not_waited_for_and_has_not_failed() {
        let mut tracker = tracker();
        let mut back = told(UpdateState::Retrying, "1", None);
        back.error = Some(Fault { code: Code::Unreachable, detail: "no broker".into() });
        back.failed = Some(FailedImage { version: "2".into(), image: image(), boots: 1 });
        back.attempt = 1;
        tracker.report("x", &back);
        assert_eq!(tracker.stage("x"), Some(&Stage::Waiting), "that was before the push");
        tracker.report("x", &told(UpdateState::Restarting, "1", Some("d1")));
        tracker.report("x", &back);
        let later = Stage::Later("unreachable: will be tried again (2 of 5)".into());
        assert_eq!(tracker.stage("x"), Some(&later));
        assert!(tracker.finished() && !tracker.succeeded());
        // While others are waited for, it may succeed.
        tracker.report("x", &told(UpdateState::Confirmed, "2", None));
        assert!(tracker.succeeded());
    }

    #[test]
    fn a_power_cut_and_another_command_on_the_way() {
        let mut tracker = tracker();
        tracker.report("x", &told(UpdateState::Downloading, "1", Some("d1")));
        tracker.report("x", &told(UpdateState::Idle, "1", None));
        assert!(!tracker.finished());
        tracker.report("x", &told(UpdateState::Downloading, "1", Some("d2")));
        assert!(matches!(tracker.stage("x"), Some(Stage::Failed(why)) if why.contains("d2")));
    }

    #[test]
    fn a_missed_middle_is_no_harm_and_others_may_join() {
        let mut tracker = Tracker::new("d1", Some(image()), [], true);
        assert!(!tracker.succeeded());
        tracker.report("z", &told(UpdateState::Current, "2", Some("d1")));
        assert_eq!(tracker.stage("z"), Some(&Stage::Current));
        assert!(tracker.finished() && tracker.succeeded());
        let mut tracker = self::tracker();
        tracker.report("x", &told(UpdateState::Confirmed, "2", None));
        assert_eq!(tracker.stage("x"), Some(&Stage::Done));
    }
}
