//! Last reports of devices, in memory: one that says nothing new costs no write.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use otaru_format::digest::Digest;
use otaru_rollout::DeviceId;

/// The most devices whose last report is remembered.
const REMEMBERED: usize = 200_000;

/// Way on which a report came. On any but the first its device is there, whatever was said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// The broker had kept it.
    Kept,
    /// It was heard as the device said it to the broker.
    Live,
    /// Over HTTP.
    Http,
}

/// Whether a device is there, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is not.
    Away,
    /// By a report over HTTP, for a while.
    Polled,
    /// By its connection to the broker.
    Connected,
}

/// Each device's last report that was taken in, and its progress since.
#[derive(Debug, Default)]
pub struct Recent(Mutex<HashMap<String, Last>>);

/// A report that was taken in.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    /// Digest of what it said, but for its progress.
    pub(crate) report: Digest,
    pub(crate) progress: Option<u8>,
    /// The version of what it runs, where the release has another than the report.
    pub(crate) version: Option<Box<str>>,
    /// Whether the device was there then: where it was not, or by a report over HTTP only, one that it gives the broker is news.
    pub(crate) reach: Reach,
}

/// A report that says what the one before it did.
pub(crate) struct RepeatedReport {
    /// Whether progress is another.
    pub(crate) moved: bool,
    pub(crate) version: Option<Box<str>>,
    /// Whether the device is there.
    pub(crate) is_there: bool,
}

impl Recent {
    /// Per cent of a device's download, while there is one.
    pub fn progress(&self, device: &str) -> Option<u8> {
        self.lock().get(device).and_then(|last| last.progress)
    }

    /// Whether the report is the one before, but for its progress, and shows nothing new by the way on which it came.
    pub(crate) fn known(
        &self,
        device: &DeviceId,
        report: Digest,
        progress: Option<u8>,
        came: Came,
    ) -> Option<RepeatedReport> {
        let mut all = self.lock();
        let last = all.get_mut(device.as_str()).filter(|last| last.report == report)?;
        match came {
            Came::Live if last.reach != Reach::Connected => return None,
            Came::Http => last.reach = Reach::Polled,
            Came::Live | Came::Kept => {}
        }
        let moved = last.progress != progress;
        last.progress = progress;
        Some(RepeatedReport { moved, version: last.version.clone(), is_there: last.reach != Reach::Away })
    }

    pub(crate) fn keep(&self, device: &DeviceId, last: Last) {
        let mut all = self.lock();
        if all.len() >= REMEMBERED && !all.contains_key(device.as_str()) {
            all.clear();
        }
        all.insert(device.to_string(), last);
    }

    /// Forgets all reports: another server may have taken newer ones.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Forgets a device's report, so that the next one is taken in whatever it says.
    pub fn forget(&self, device: &DeviceId) {
        self.lock().remove(device.as_str());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
