//! Releases, and the work on them.

use otaru_format::digest::Digest;
use otaru_format::image::Header;
use serde::{Deserialize, Serialize};

use crate::name::{Name, Named};
use crate::timestamp::Timestamp;

/// Firmware that devices can be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Release {
    /// Number on this server.
    pub id: i64,
    /// SHA-256 of the image, which devices report when they run it.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub image: Digest,
    /// First eight digits of it, to tell releases apart.
    #[serde(default)]
    pub image_short: String,
    /// Product and version and, where another release for the chip has the same, the first digits of the image.
    #[serde(default)]
    pub title: String,
    /// Product that it is firmware for.
    pub product: String,
    /// Version.
    pub version: String,
    /// Chip that it runs on.
    pub chip: String,
    /// Bytes of the image.
    pub image_size: u64,
    /// Digest of the image as a file, where there is one.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    #[serde(default)]
    pub raw: Option<Digest>,
    /// Digest of the release file, where there is one: devices are sent to it rather than to the image.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    #[serde(default)]
    pub file: Option<Digest>,
    /// Bytes of the release file.
    #[serde(default)]
    pub file_size: Option<u64>,
    /// Whether this server made the release file.
    #[serde(default)]
    pub built: bool,
    /// Id of the key that signed it.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Sequence in it, by which devices know what is newer.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// Bytes of the compressed image in it.
    #[serde(default)]
    pub compressed_size: Option<u64>,
    /// Patches in it.
    #[serde(default)]
    pub deltas: Vec<Delta>,
    /// Name of the file it came in last, shortened where it is long.
    #[serde(default)]
    pub filename: Option<String>,
    /// Notes of people.
    #[serde(default)]
    pub notes: String,
    /// Time of the upload.
    pub created_at: Timestamp,
    /// Name of the token that uploaded it.
    pub created_by: String,
    /// Time at which it was yanked: it is offered to no device any longer.
    #[serde(default)]
    pub yanked_at: Option<Timestamp>,
    /// Number of devices that run it.
    #[serde(default)]
    pub devices: u64,
    /// Latest work on it.
    #[serde(default)]
    pub job: Option<Job>,
    /// Boards that it runs on, by the image's header, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
}

/// The release that a file became.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Uploaded {
    /// The release.
    #[serde(flatten)]
    pub release: Release,
    /// Remarks on the file: what was left out or kept of it, and what else to know.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub remarks: Vec<String>,
}

/// A patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Delta {
    /// Digest of the image that it is for.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub base: Digest,
    /// Version of that image, where it is a release of this server; with digits of it where another one has the same.
    #[serde(default)]
    pub version: Option<String>,
    /// Bytes of it.
    pub size: u64,
}

/// Boards that an image runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Needs {
    /// Bytes of flash that the chip must have at least, where the header names a size that there is.
    pub flash_size: Option<u32>,
    /// Lowest chip revision, ×100.
    pub min_revision: u16,
    /// Highest chip revision, ×100, if there is one.
    pub max_revision: Option<u16>,
}

impl Needs {
    /// Returns the chip revisions, such as `v0.3 to v1.99`.
    pub fn revisions(&self) -> String {
        let name = |revision: u16| format!("v{}.{}", revision / 100, revision % 100);
        match self.max_revision {
            Some(highest) => format!("{} to {}", name(self.min_revision), name(highest)),
            None => format!("{} or later", name(self.min_revision)),
        }
    }
}

impl From<&Header> for Needs {
    fn from(header: &Header) -> Self {
        Self {
            flash_size: header.flash_size(),
            min_revision: header.min_revision,
            max_revision: header.highest_revision(),
        }
    }
}

/// Work on a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Job {
    /// Number.
    pub id: i64,
    /// Release that is worked on.
    pub release: i64,
    /// Kind of work: `build` or `replace`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub kind: Name<JobKind>,
    /// State: `queued`, `running`, `done` or `failed`.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub state: Name<JobState>,
    /// Stage, or why it failed.
    #[serde(default)]
    pub detail: String,
    /// Time at which it was asked for.
    pub created_at: Timestamp,
    /// Time at which it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}

impl Job {
    /// Whether it waits or runs.
    pub fn is_under_way(&self) -> bool {
        self.state == JobState::Queued || self.state == JobState::Running
    }
}

/// Kinds of work on a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Makes a release file where there is none, or one with more patches where this server made it.
    Build,
    /// Does the same, also in place of a file that was signed elsewhere.
    Replace,
}

impl JobKind {
    /// Returns the one of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Build, Self::Replace].into_iter().find(|known| known.as_str() == name)
    }

    /// Returns the name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Replace => "replace",
        }
    }
}

impl Named for JobKind {
    fn of_name(name: &str) -> Option<Self> {
        Self::of_name(name)
    }

    fn name(self) -> &'static str {
        self.as_str()
    }
}

/// States of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits for others.
    Queued,
    /// It is under way.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

impl JobState {
    /// Returns the one of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Done, Self::Failed]
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    /// Returns the name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl Named for JobState {
    fn of_name(name: &str) -> Option<Self> {
        Self::of_name(name)
    }

    fn name(self) -> &'static str {
        self.as_str()
    }
}

/// Changes of a release.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeRelease {
    /// Notes for people.
    pub notes: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_named_as_espressif_does() {
        let needs = |min_revision, max_revision| Needs { flash_size: None, min_revision, max_revision };
        assert_eq!(needs(3, Some(199)).revisions(), "v0.3 to v1.99");
        assert_eq!(needs(0, None).revisions(), "v0.0 or later");
    }
}
