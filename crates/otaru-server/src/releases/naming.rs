//! Names of releases: read from the file, or given with the upload; and digits to tell apart two that look alike.

use otaru_format::digest::Digest;
use otaru_format::name::is_unruly;
use otaru_format::release::is_good_text;

use crate::db::{Connection, DbError, OptionalExtension as _, params};
use crate::problem::Problem;
use crate::text::cut;

/// Bytes of the longest file name that is kept.
pub const LONGEST_FILENAME: usize = 100;

/// Hexadecimal digits of a digest in lists.
const SHORT: usize = 8;

/// Names that come with an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// Product, where the file does not say it well.
    pub product: Option<String>,
    /// Version, where the file does not say it well.
    pub version: Option<String>,
    /// Name of the file, shortened where it is long.
    pub filename: Option<String>,
}

impl Naming {
    /// Reads what somebody entered; what is left empty is not given.
    ///
    /// # Errors
    /// When no release can be called so.
    pub fn new(
        product: Option<String>,
        version: Option<String>,
        filename: Option<String>,
    ) -> Result<Self, Problem> {
        Ok(Self {
            product: good("product", product)?,
            version: good("version", version)?,
            filename: filename.as_deref().and_then(bounded),
        })
    }
}

fn good(what: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match is_good_text(&text) {
        true if !text.contains(is_unruly) => Ok(Some(text)),
        _ => Err(Problem::invalid(format!(
            "`{what}`: it has 1 to 32 bytes, none of which controls a terminal or turns the direction of writing"
        ))),
    }
}

/// A file's name without its folders, harmless and of a bounded length.
fn bounded(path: &str) -> Option<String> {
    let mut name = path.rsplit(['/', '\\']).next()?.trim().to_owned();
    cut(&mut name, LONGEST_FILENAME);
    Some(name).filter(|name| !name.is_empty())
}

/// The first digits of a digest, by which people tell images apart.
pub fn short(image: Digest) -> String {
    let mut hex = image.to_string();
    hex.truncate(SHORT);
    hex
}

/// The same of a digest in hexadecimal; `None` for a text that is shorter.
pub fn short_of(hex: &str) -> Option<&str> {
    hex.get(..SHORT)
}

/// The version of the release with this image, which is what a device that runs it is said to run: the image's own words may be
/// the same for every build.
pub fn version_of(tx: &Connection, image: Digest) -> Result<Option<String>, DbError> {
    let sql = "SELECT version FROM releases WHERE image = ?";
    tx.prepare(sql).query_row([image.0], |row| row.get(0)).optional()
}

/// A version as it is shown by itself: with digits of the image where another release of the product and chip has the same.
pub fn told_apart(
    tx: &Connection,
    (product, chip): (&str, &str),
    version: &str,
    image: Digest,
) -> Result<String, DbError> {
    let sql = "SELECT 1 FROM releases WHERE product = ? AND chip = ? AND version = ? AND image <> ?";
    let alike = tx.prepare(sql).exists(params![product, chip, version, image.0])?;
    Ok(if alike { format!("{version} ({})", short(image)) } else { version.to_owned() })
}

/// Whether an image's own name is that of a framework, which every app that is built with it has.
pub fn is_framework_name(project: &str) -> bool {
    let project = project.to_ascii_lowercase();
    // Arduino-ESP32 links libraries that were built beforehand, and their descriptor with them.
    project.ends_with("arduino-lib-builder")
}

/// Whether an image's own version is that of a framework.
pub fn is_framework_version(version: &str) -> bool {
    version.to_ascii_lowercase().starts_with("esp-idf:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_kept_short_and_harmless() {
        let name = |text: &str| Naming::new(None, None, Some(text.into())).unwrap().filename;
        assert_eq!(name("WLED_0.14.4_ESP32-C3.bin").as_deref(), Some("WLED_0.14.4_ESP32-C3.bin"));
        assert_eq!(name("C:\\fw\\a.bin").as_deref(), Some("a.bin"));
        assert_eq!(name("/tmp/../b.bin").as_deref(), Some("b.bin"));
        assert_eq!(name("\u{1b}[31m.bin").as_deref(), Some("\u{FFFD}[31m.bin"));
        assert_eq!((name(""), name("folder/"), name(" ")), (None, None, None));
        for long in ["x".repeat(101), "ä".repeat(5_000)] {
            let kept = name(&long).unwrap();
            assert!(kept.len() <= LONGEST_FILENAME && kept.ends_with('…'), "{kept}");
        }
        assert_eq!(name(&"x".repeat(100)).unwrap().len(), 100);
    }

    #[test]
    fn names_are_what_a_manifest_can_have() {
        let version = |text: &str| Naming::new(None, Some(text.into()), None).map(|naming| naming.version);
        assert_eq!(version(" 0.14.4 ").unwrap().as_deref(), Some("0.14.4"));
        assert_eq!(version("").unwrap(), None);
        assert_eq!(version(&"v".repeat(32)).unwrap().unwrap().len(), 32);
        for bad in ["v".repeat(33), "a\u{7}b".into(), "ä".repeat(17)] {
            assert_eq!(version(&bad).unwrap_err().status, 422, "{bad:?}");
        }
    }

    #[test]
    fn names_of_frameworks_are_known() {
        for name in ["arduino-lib-builder", "esp32-arduino-lib-builder", "Arduino-Lib-Builder"] {
            assert!(is_framework_name(name), "{name}");
        }
        assert!(is_framework_version("esp-idf: v4.4.3 6407ecb3f8"));
        for (project, version) in [("lamp", "1.0.0"), ("nukihub", "177a0c4-dirty"), ("arduino", "v4.4.3")] {
            assert!(!is_framework_name(project) && !is_framework_version(version), "{project} {version}");
        }
    }
}
