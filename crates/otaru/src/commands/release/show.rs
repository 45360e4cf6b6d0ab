//! `otaru release show`.

use otaru_api::{Answer, Release};

use super::one::One;
use crate::client::releases::title;
use crate::moment::ago;
use crate::output::Output;
use crate::ui;

pub(super) async fn run(one: &One, output: Output) -> anyhow::Result<()> {
    let (_, release) = one.find().await?;
    tell(&release, output);
    Ok(())
}

/// Prints a release, in lines or as JSON.
pub(super) fn tell(release: &Answer<Release>, output: Output) {
    if output.json {
        return ui::line(&release.json.to_string());
    }
    let release = &release.value;
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            ui::line(&format!("{name:<12} {}", ui::clean(value)));
        }
    };
    line("release", &format!("{}, id {}", title(release), release.id));
    line("chip", &release.chip);
    if let Some(needs) = release.needs {
        line("revisions", &needs.revisions());
        line("flash", &needs.flash_size.map_or_else(String::new, |size| ui::size(size.into())));
    }
    line("image", &release.image.to_string());
    line("file", release.filename.as_deref().unwrap_or_default());
    let image = format!("{} image", ui::size(release.image_size));
    let compressed = release.compressed_size.map(|size| format!(", {} compressed", ui::size(size)));
    line("size", &format!("{image}{}", compressed.unwrap_or_default()));
    line("signed by", release.signed_by.as_deref().unwrap_or_default());
    for delta in &release.deltas {
        let base = delta.version.clone().unwrap_or_else(|| delta.base.to_string());
        line("patch", &format!("{} from {base}", ui::size(delta.size)));
    }
    line("notes", &release.notes);
    line("runs on", &ui::many(release.devices, "device"));
    if let Some(at) = release.yanked_at {
        line("state", &format!("yanked {}; `otaru release unyank` offers it again", ago(at)));
    }
}
