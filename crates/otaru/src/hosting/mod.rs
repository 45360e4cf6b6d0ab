//! A place from which devices fetch files, ours or somebody else's.

pub(crate) mod files;
mod if_range;
pub(crate) mod served;

use crate::percent::escape_name;

/// A place from which devices fetch files over HTTP.
pub(crate) trait FileHost {
    /// Puts a file there under this name; gives back its URL.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<String>;
}

/// A folder that somebody else serves, such as nginx.
#[derive(Debug, Clone)]
pub(crate) struct OutsideFiles {
    /// The folder.
    pub(crate) dir: std::path::PathBuf,
    /// The URL under which it is served.
    pub(crate) url: String,
}

impl FileHost for OutsideFiles {
    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<String> {
        store(&self.dir, name, bytes)?;
        Ok(format!("{}/{}", self.url.trim_end_matches('/'), escape_name(name)))
    }
}

/// Writes a file so that nobody ever fetches half of it, after a loss of power neither.
fn store(dir: &std::path::Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(dir.join(name)).map_err(|error| error.error)?;
    otaru_release::output::sync_name(&dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outside_folder_gives_urls() {
        let dir = tempfile::tempdir().unwrap();
        let host = OutsideFiles { dir: dir.path().into(), url: "http://nginx/fw/".into() };
        assert_eq!(host.put("a b.bin", b"x").unwrap(), "http://nginx/fw/a%20b.bin");
        assert_eq!(std::fs::read(dir.path().join("a b.bin")).unwrap(), b"x");
    }
}
