//! Description of a release file, in words or as JSON.

use std::path::Path;

use anyhow::Context as _;
use otaru_format::release::{Payload, PayloadKind};
use otaru_release::file::ReleaseFile;
use otaru_release::verify::{kind_name, stored_frames};
use serde_json::{Value, json};

use crate::output::{Outcome, Output};
use crate::release_file::chip_name;
use crate::ui;

/// Shows a release file.
pub(crate) fn show(path: &Path, bytes: &[u8], output: Output) -> anyhow::Result<Outcome> {
    let file = ReleaseFile::parse(bytes).with_context(|| path.display().to_string())?;
    let length = file.check_len();
    if output.json {
        let mut object = as_json(&file);
        object["file"] = path.display().to_string().into();
        object["file_size"] = bytes.len().into();
        object["whole"] = length.is_ok().into();
        ui::line(&object.to_string());
    } else {
        row("file", &format!("{}  {}", path.display(), ui::size(bytes.len() as u64)));
        show_manifest(&file);
        show_payloads(&file);
    }
    match length {
        Ok(()) => Ok(Outcome::Good),
        Err(error) => {
            ui::error(&format!("{}: {error}", path.display()));
            Ok(Outcome::Bad)
        }
    }
}

fn row(name: &str, value: &str) {
    ui::line(&format!("{name:<12} {}", ui::clean(value)));
}

fn show_manifest(file: &ReleaseFile<'_>) {
    let manifest = &file.manifest;
    row("product", manifest.product);
    for name in manifest.also() {
        row("also for", name);
    }
    row("chip", &chip_name(manifest.chip_id));
    row("version", manifest.version);
    row("sequence", &manifest.sequence.to_string());
    match file.envelope.key_id() {
        Some(id) => row("signed with", &format!("{id}  (not checked here: otaru verify)")),
        None => row("signed with", "nothing: THIS RELEASE IS NOT SIGNED"),
    }
    row("image", &manifest.image.to_string());
    let blocks = ui::many(manifest.block_count() as u64, "block");
    let blocks = format!("{blocks} of {}", ui::size(manifest.block_size.into()));
    row("size", &format!("{} bytes ({}), {blocks}", manifest.size, ui::size(manifest.size.into())));
    if let Some(version) = manifest.min_base {
        row("for devices", &format!("that run {version} or later"));
    }
    if manifest.secure_version != 0 {
        row("secure ver.", &manifest.secure_version.to_string());
    }
    for id in manifest.revoked() {
        row("revokes", &id.to_string());
    }
}

fn show_payloads(file: &ReleaseFile<'_>) {
    row("manifest", &format!("{} bytes with its signature", file.envelope_len));
    for (index, payload) in file.manifest.payloads().enumerate() {
        let more = match payload.kind {
            PayloadKind::Raw => String::new(),
            PayloadKind::Lzma => match stored_frames(file, &payload) {
                0 => String::new(),
                stored => format!("  {stored} of {} blocks stored as they are", file.manifest.block_count()),
            },
            PayloadKind::Delta { base } => format!("  from {base}"),
        };
        let name = if index == 0 { "payloads" } else { "" };
        let percent = percent(file, &payload);
        row(name, &format!("{:<5} {:>9} bytes {percent:>6.1} %{more}", kind_name(payload.kind), payload.len));
    }
}

fn percent(file: &ReleaseFile<'_>, payload: &Payload<'_>) -> f64 {
    f64::from(payload.len) * 100.0 / f64::from(file.manifest.size)
}

fn as_json(file: &ReleaseFile<'_>) -> Value {
    let manifest = &file.manifest;
    let payloads: Vec<_> = manifest.payloads().map(|payload| payload_json(file, &payload)).collect();
    json!({
        "product": manifest.product,
        "also": manifest.also().collect::<Vec<_>>(),
        "chip": otaru_format::chip::Chip::from_id(manifest.chip_id).map(|chip| chip.name()),
        "chip_id": manifest.chip_id,
        "version": manifest.version,
        "sequence": manifest.sequence,
        "key_id": file.envelope.key_id().map(|id| id.to_string()),
        "signed": file.envelope.signature().is_some(),
        "image": manifest.image.to_string(),
        "size": manifest.size,
        "block_size": manifest.block_size,
        "blocks": manifest.blocks().map(|block| block.hash.to_string()).collect::<Vec<_>>(),
        "min_base": manifest.min_base,
        "secure_version": manifest.secure_version,
        "revoked": manifest.revoked().map(|id| id.to_string()).collect::<Vec<_>>(),
        "envelope_size": file.envelope_len,
        "payloads": payloads,
    })
}

fn payload_json(file: &ReleaseFile<'_>, payload: &Payload<'_>) -> Value {
    let frames = (0..file.manifest.block_count()).filter_map(|index| payload.frame(&file.manifest, index));
    let base = match payload.kind {
        PayloadKind::Delta { base } => Some(base.to_string()),
        PayloadKind::Raw | PayloadKind::Lzma => None,
    };
    json!({
        "kind": kind_name(payload.kind),
        "offset": payload.offset,
        "length": payload.len,
        "percent": (percent(file, payload) * 10.0).round() / 10.0,
        "frames": frames.map(|frame| frame.len).collect::<Vec<_>>(),
        "base": base,
    })
}
