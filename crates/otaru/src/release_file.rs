//! Release files and keys on disk, as several commands read and write them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use otaru_format::chip::Chip;
use otaru_format::image::file::{MERGED_REMEDY, SECTOR, is_merged};
use otaru_format::partition::{PartitionTable, TABLE_LEN, TABLE_OFFSET};
use otaru_release::keys::{PublicKey, SecretKey};
use otaru_release::output::{self, Access, Existing};

use crate::firmware_file::Firmware;

/// Twice the largest image, and room for deltas.
const LARGEST: u64 = 64 << 20;

/// Reads a release file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(failed)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > LARGEST {
        bail!("{} has more than 64 MiB: no release file", path.display());
    }
    if is_merged(&bytes) {
        bail!(
            "{0} is no release file: {MERGED_REMEDY}; or cut it out: `dd if={0} of=app.bin bs=4096 skip={1}`, which `otaru image \
             info app.bin` checks and `otaru release app.bin` makes a release of",
            path.display(),
            application(&bytes) / SECTOR
        );
    }
    if bytes.first() == Some(&otaru_format::image::MAGIC) {
        bail!("{0} is an image, not a release file; `otaru release {0}` makes one of it", path.display());
    }
    Ok(bytes)
}

/// Finds where the application begins in a merged flash image: at the first slot of its partition table, or where it usually is.
fn application(merged: &[u8]) -> u32 {
    let at = TABLE_OFFSET as usize;
    let table = merged.get(at..at + TABLE_LEN).and_then(|table| PartitionTable::parse(table).ok());
    table.and_then(|table| table.slot(0)).map_or(0x1_0000, |slot| slot.offset)
}

/// Reads images that patches are for.
pub(crate) fn bases(paths: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    paths.iter().map(|path| Ok(Firmware::read(path)?.kept().to_vec())).collect()
}

/// Writes a file that is there whole or not at all, and is none of those it was made from.
pub(crate) fn write(path: &Path, bytes: &[u8], sources: &[&Path]) -> anyhow::Result<()> {
    let same = |source: &&&Path| {
        let real = |path: &Path| path.canonicalize().ok();
        real(path).is_some() && real(path) == real(source)
    };
    if let Some(source) = sources.iter().find(same) {
        bail!("-o {} would overwrite what it is made from; choose another name", source.display());
    }
    output::write(path, bytes, Access::Usual, Existing::Replace)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a private key, with a word of caution when others can read it too.
pub(crate) fn secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let key = SecretKey::read(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
            let path = path.display();
            crate::ui::warn(&format!("other users can read the private key {path}; `chmod 600 {path}`"));
        }
    }
    Ok(key)
}

/// Reads public keys.
pub(crate) fn public_keys(paths: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    Ok(paths.iter().map(|path| PublicKey::read(path)).collect::<Result<_, _>>()?)
}

/// A chip's name, or its number.
pub(crate) fn chip_name(id: u16) -> String {
    Chip::from_id(id).map_or_else(|| format!("unknown (id {id})"), |chip| chip.name().to_owned())
}

/// The sequence of a release that is made now, where none is given.
pub(crate) fn sequence_now() -> anyhow::Result<u64> {
    otaru_release::sequence::now().context("this machine's clock stands before 1970; set it")
}

#[cfg(test)]
mod tests {
    use otaru_release::keys::PublicKey;

    /// `--key` takes what a device takes: weak keys, other encodings of one point, and bytes that are no point.
    #[test]
    fn a_key_is_good_for_both_or_for_none() {
        let mut keys = vec![[0; 32], [0xFF; 32]];
        // All encodings of small numbers and of those around the prime, with either sign.
        for low in 0..=255 {
            for fill in [0, 0xFF] {
                for top in [0, 0x7F, 0x80, 0xFF] {
                    let mut key = [fill; 32];
                    (key[0], key[31]) = (low, top);
                    keys.push(key);
                }
            }
        }
        for number in 0_u64..500 {
            keys.push(otaru_format::digest::Digest::of(&number.to_le_bytes()).0);
        }
        let mut good = 0;
        for key in &keys {
            let taken = PublicKey::from_bytes(key).is_some();
            assert_eq!(taken, otaru_device::PublicKey::from_bytes(*key).check().is_ok(), "{key:02x?}");
            good += usize::from(taken);
        }
        assert!((500..keys.len() - 500).contains(&good), "{good}");
    }
}
