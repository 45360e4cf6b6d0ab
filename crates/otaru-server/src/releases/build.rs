//! Makes a release file: what of, and the long work itself, on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use otaru_api::JobState;
use otaru_format::digest::Digest;
use otaru_release::build::{BuildError, MAX_BASES, Options, Progress, Stage, Unsigned, build};
use otaru_release::file::ReleaseFile;
use otaru_release::keys::SecretKey;
use otaru_release::verify::try_patches;
use tokio::sync::oneshot;

use super::Keys;
use super::columns::digest_at;
use super::contents::{Contents, Kind, ReleaseParts};
use super::job::Job;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::events::Events;

/// Progress is told no more often.
const TELL: Duration = Duration::from_millis(250);
/// Cost of a patch, in blocks that are to be compressed: a guess for the progress bar.
const BLOCKS_PER_PATCH: usize = 20;
/// Niceness of the thread (`nice`), so that answers do not wait for it.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Ingredients of a release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) product: String,
    pub(super) version: String,
    pub(super) sequence: u64,
    raw: Digest,
    /// Images that get a patch, and their files.
    bases: Vec<(Digest, Digest)>,
}

/// The files of a plan, in its order.
pub(super) struct Sources {
    raw: Bytes,
    bases: Vec<Bytes>,
}

/// A release file.
pub(super) struct Built {
    pub(super) bytes: Bytes,
    pub(super) parts: ReleaseParts,
    /// All images that were tried, and the size of their patch if it was worth it.
    pub(super) deltas: Vec<(Digest, Option<u32>)>,
}

/// The plan for a release; `None` if its image is not there as a file.
pub(super) fn plan(tx: &Connection, release: i64) -> Result<Option<Plan>, DbError> {
    let sql = "SELECT product, sequence, raw, version FROM releases WHERE id = ?1";
    let row =
        tx.query_row(sql, [release], |row| Ok((row.get(0)?, row.get(1)?, digest_at(row, 2)?, row.get(3)?)));
    let Some((product, Some(sequence), Some(raw), version)) = row.optional()? else { return Ok(None) };
    Ok(Some(Plan { product, version, sequence, raw, bases: bases(tx, release)? }))
}

/// The images that most devices run which this release is for, and their files, where those are here.
pub(super) fn bases(tx: &Connection, release: i64) -> Result<Vec<(Digest, Digest)>, DbError> {
    let statement = tx.prepare(
        "SELECT b.image, b.raw FROM releases r JOIN releases b ON b.product = r.product AND b.chip = r.chip \
         JOIN devices d ON d.image = b.image \
         WHERE r.id = ?1 AND b.id != r.id AND b.raw IS NOT NULL AND d.retired_at IS NULL \
         GROUP BY b.id ORDER BY count(*) DESC, b.id DESC LIMIT ?2",
    );
    let rows = statement.query_map(params![release, MAX_BASES as i64], |row| {
        Ok((Digest(row.get(0)?), Digest(row.get(1)?)))
    })?;
    rows.collect::<Result<_, _>>()
}

/// Reads a plan's files.
pub(super) async fn load(artifacts: &Artifacts, plan: &Plan) -> Result<Sources, ArtifactError> {
    let raw = artifacts.read_whole(plan.raw).await?;
    let mut bases = Vec::with_capacity(plan.bases.len());
    for (_, file) in &plan.bases {
        bases.push(artifacts.read_whole(*file).await?);
    }
    Ok(Sources { raw, bases })
}

/// Makes the file on a thread of its own, and tells how far it is.
pub(super) async fn in_background(
    plan: Plan,
    sources: Sources,
    signer: Option<Arc<SecretKey>>,
    keys: Keys,
    events: Events,
    job: Job,
) -> Result<Built, String> {
    let (sender, answer) = oneshot::channel();
    let work = move || {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        let mut teller = Teller::new(plan.bases.len(), |detail: &str, progress| {
            events.tell(job.event(JobState::Running, detail, Some(progress)));
        });
        // Nobody listens if the server is shutting down.
        let _ = sender
            .send(make(&plan, sources, signer.as_deref(), &keys, &mut |progress| teller.hear(progress)));
    };
    let thread = std::thread::Builder::new().name("build".into()).spawn(work);
    thread.map_err(|error| format!("no thread for it: {error}"))?;
    answer.await.unwrap_or_else(|_| Err("the work broke off; the log says why".into()))
}

fn make(
    plan: &Plan,
    sources: Sources,
    signer: Option<&SecretKey>,
    keys: &Keys,
    progress: &mut dyn FnMut(Progress),
) -> Result<Built, String> {
    let bases: Vec<Vec<u8>> = sources.bases.into_iter().map(Vec::from).collect();
    let (unsigned, bases) = from_good_bases(plan, &sources.raw, bases, progress)?;
    let made = match signer {
        Some(signer) => unsigned.sign(signer),
        None => unsigned.without_signature(),
    };
    let bytes = made.map_err(|error| error.to_string())?;
    // What devices are sent to is first looked at as they do.
    let contents = Contents::read(&bytes, keys).map_err(|error| error.to_string())?;
    let file = ReleaseFile::parse(&bytes).map_err(|error| error.to_string())?;
    try_patches(&file, &bases).map_err(|error| error.to_string())?;
    let Kind::Release(parts) = contents.kind else { return Err("it is no release file".into()) };
    let size = |image| parts.deltas.iter().find(|(base, _)| *base == image).map(|(_, size)| *size);
    let deltas = plan.bases.iter().map(|(image, _)| (*image, size(*image))).collect();
    Ok(Built { bytes: bytes.into(), parts, deltas })
}

/// Leaves out bases that no patch can start from, such as one whose project has another name than its release.
fn from_good_bases(
    plan: &Plan,
    raw: &[u8],
    bases: Vec<Vec<u8>>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Unsigned, Vec<Vec<u8>>), String> {
    let (product, version) = (Some(plan.product.clone()), Some(plan.version.clone()));
    let mut options = Options { product, version, bases, ..Options::new(plan.sequence) };
    loop {
        match build(raw, &options, progress) {
            Ok(unsigned) => return Ok((unsigned, options.bases)),
            Err(BuildError::Base { index, why }) if index < options.bases.len() => {
                tracing::warn!(base = index, %why, "no patch can start from an image that devices run");
                options.bases.remove(index);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Turns progress into a few words and per cent, now and then.
struct Teller<F> {
    tell: F,
    told: Option<Instant>,
    patches: usize,
}

impl<F: FnMut(&str, u8)> Teller<F> {
    fn new(patches: usize, tell: F) -> Self {
        Self { tell, told: None, patches }
    }

    fn hear(&mut self, progress: Progress) {
        self.hear_at(progress, Instant::now());
    }

    fn hear_at(&mut self, progress: Progress, now: Instant) {
        if self.told.is_some_and(|told| now.duration_since(told) < TELL) {
            return;
        }
        self.told = Some(now);
        let patches = self.patches * BLOCKS_PER_PATCH;
        let (what, done, all) = match progress.stage {
            // How many blocks will follow is not known yet; about as many as in an image of 1 MiB.
            Stage::Patches => ("patches", progress.done * BLOCKS_PER_PATCH, patches + 16),
            Stage::Blocks => ("compressing", patches + progress.done, patches + progress.of),
        };
        let per_cent = (done * 100 / all.max(1)).min(100) as u8;
        (self.tell)(&format!("{what}: {} of {}", progress.done, progress.of), per_cent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_at_most_four_times_a_second() {
        let mut told = Vec::new();
        let mut teller = Teller::new(2, |what: &str, per_cent| told.push((what.to_owned(), per_cent)));
        let start = Instant::now();
        let at = |stage, done, of| Progress { stage, done, of, taken: 0, given: 0 };
        for millis in 0..1_000 {
            let progress = at(Stage::Blocks, millis * 10 / 1_000, 10);
            teller.hear_at(progress, start + Duration::from_millis(millis as u64));
        }
        assert_eq!(told.len(), 4);
        assert_eq!(told[2], ("compressing: 5 of 10".into(), 90));
        let mut told = Vec::new();
        let mut teller = Teller::new(2, |what: &str, per_cent| told.push((what.to_owned(), per_cent)));
        teller.hear_at(at(Stage::Patches, 1, 2), start);
        assert_eq!(told, [("patches: 1 of 2".into(), 35)]);
    }
}
