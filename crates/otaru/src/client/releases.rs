//! Releases as the command line names and finds them.

use anyhow::bail;
use otaru_api::{Answer, Release, ReleaseInShort, ReleaseQuery};

use super::http::{Client, with_query};
use crate::moment::ago;
use crate::ui;
use crate::ui::missing::missing;

/// The names of a release, in full or in short.
pub(crate) trait Named {
    /// Returns the server's title for it, the product and the version.
    fn names(&self) -> [&str; 3];
    /// Returns its chip, digits of its image and its file's name, as far as they are known.
    fn marks(&self) -> [Option<&str>; 3];
}

impl Named for Release {
    fn names(&self) -> [&str; 3] {
        [&self.title, &self.product, &self.version]
    }

    fn marks(&self) -> [Option<&str>; 3] {
        [Some(&self.chip), Some(&self.image_short), self.filename.as_deref()]
    }
}

impl Named for ReleaseInShort {
    fn names(&self) -> [&str; 3] {
        [&self.title, &self.product, &self.version]
    }

    fn marks(&self) -> [Option<&str>; 3] {
        [None, Some(&self.image_short), self.filename.as_deref()]
    }
}

/// Product and version of a release and, where another one looks alike, digits of its image.
pub(crate) fn title(release: &impl Named) -> String {
    match release.names() {
        // Older servers give none.
        ["", product, version] => ui::clean(&format!("{product} {version}")),
        [title, ..] => ui::clean(title),
    }
}

/// Marks that tell a release from others that are called alike: chip, digits of its image, file name.
fn marks(release: &impl Named) -> String {
    let known = release.marks().into_iter().flatten().filter(|mark| !mark.is_empty());
    known.map(ui::clean).collect::<Vec<_>>().join(", ")
}

/// Title and marks of a release: `lamp 1.1.0 (esp32c3, 7194fdc7, lamp.bin)`.
pub(crate) fn title_and_marks(release: &impl Named) -> String {
    match marks(release) {
        marks if marks.is_empty() => title(release),
        marks => format!("{} ({marks})", title(release)),
    }
}

/// Whether a release that was yanked is what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yanked {
    Taken,
    Refused,
}

/// A release by its id, or by `PRODUCT@VERSION`. Of several of one name those that were not yanked count, if there are any.
pub(crate) async fn find(client: &Client, text: &str, yanked: Yanked) -> anyhow::Result<Answer<Release>> {
    if let Ok(id) = text.parse::<u64>() {
        return not_yanked(client.get(&format!("/releases/{id}")).await?, text, yanked);
    }
    let Some((product, version)) = text.split_once('@') else {
        bail!("a release is named by its id, or as PRODUCT@VERSION; `otaru release list` shows both");
    };
    let (product, version) = (Some(product.to_owned()), Some(version.to_owned()));
    let query = ReleaseQuery { product, version, ..ReleaseQuery::default() };
    let mut found: Vec<Release> = client.list(&with_query("/releases", &query), 10).await?;
    if found.iter().any(|release| release.yanked_at.is_none()) {
        found.retain(|release| release.yanked_at.is_none());
    }
    match found.as_slice() {
        [release] => not_yanked(client.get(&format!("/releases/{}", release.id)).await?, text, yanked),
        [] => {
            let all: Vec<Release> = client.list("/releases", 1_000).await?;
            let names: Vec<String> =
                all.iter().map(|release| format!("{}@{}", release.product, release.version)).collect();
            bail!(missing("release", text, names.iter().map(String::as_str).collect()))
        }
        several => {
            let ids = several.iter().map(|release| format!("{} ({})", release.id, marks(release)));
            bail!(
                "several releases are called {}; give the id of one: {}",
                ui::clean(text),
                ids.collect::<Vec<_>>().join(", ")
            )
        }
    }
}

fn not_yanked(release: Answer<Release>, text: &str, yanked: Yanked) -> anyhow::Result<Answer<Release>> {
    match release.value.yanked_at.filter(|_| yanked == Yanked::Refused) {
        None => Ok(release),
        Some(at) => bail!(
            "{} was yanked {}: it is offered to nobody; `otaru release unyank {}` offers it again",
            ui::clean(text),
            ago(at),
            release.value.id
        ),
    }
}
