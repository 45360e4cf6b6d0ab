//! Selection of the files of a folder that are served: firmware, or all of them; never what is hidden, and nothing outside the folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::percent::unescape;

/// Kinds of files that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Images and release files.
    Firmware,
    /// Every file that is not hidden.
    All,
}

impl Kinds {
    /// Whether a file of this name is one.
    pub(crate) fn has(self, name: &str) -> bool {
        let firmware = || {
            let name = name.to_ascii_lowercase();
            name.ends_with(".bin") || name.ends_with(".otaru")
        };
        !name.starts_with('.') && (self == Self::All || firmware())
    }
}

/// A folder, and what of it is served.
#[derive(Debug)]
pub(super) struct ServedFolder {
    dir: PathBuf,
    kinds: Kinds,
}

impl ServedFolder {
    pub(super) fn new(dir: &Path, kinds: Kinds) -> std::io::Result<Self> {
        Ok(Self { dir: dir.canonicalize()?, kinds })
    }

    /// Whether the file at this path of a URL is served.
    fn has(&self, path: &str) -> bool {
        let Some(path) = unescape(path).filter(|path| !path.contains(['\0', '\\'])) else { return false };
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let Some(last) = names.last() else { return false };
        if names.iter().any(|name| name.starts_with('.')) || !self.kinds.has(last) {
            return false;
        }
        // Where links lead, not what they are called.
        let found = names.iter().fold(self.dir.clone(), |path, name| path.join(name)).canonicalize();
        let Ok(found) = found else { return false };
        let Ok(inside) = found.strip_prefix(&self.dir) else { return false };
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        let name = found.file_name().and_then(|name| name.to_str());
        found.is_file() && !inside.iter().any(hidden) && name.is_some_and(|name| self.kinds.has(name))
    }
}

/// Answers 404 to whoever asks for anything else.
pub(super) async fn only(State(shown): State<Arc<ServedFolder>>, request: Request, next: Next) -> Response {
    match shown.has(request.uri().path()) {
        true => next.run(request).await,
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_firmware_inside_the_folder_is_shown() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("served");
        std::fs::create_dir_all(dir.join("sub/.git")).unwrap();
        for name in [
            "lamp 1.bin",
            "lamp.otaru",
            "sub/hall.BIN",
            "key.pem",
            ".env",
            ".x.bin",
            "sub/.git/a.bin",
            "notes.txt",
        ] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        std::fs::write(outer.path().join("outside.bin"), "").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
        link("../outside.bin", "out.bin");
        link("..", "up");
        link("key.pem", "key.bin");
        link("sub/.git/a.bin", "git.bin");
        link("sub/hall.BIN", "inside.bin");
        let firmware = ServedFolder::new(&dir, Kinds::Firmware).unwrap();
        for path in ["/lamp%201.bin", "/lamp.otaru", "/sub/hall.BIN", "/inside.bin", "//lamp.otaru"] {
            assert!(firmware.has(path), "{path}");
        }
        let all = ServedFolder::new(&dir, Kinds::All).unwrap();
        for path in ["/key.pem", "/notes.txt", "/key.bin"] {
            assert!(!firmware.has(path), "{path}");
            assert!(all.has(path), "{path}");
        }
        for path in [
            "/",
            "",
            "/sub",
            "/.env",
            "/%2eenv",
            "/.x.bin",
            "/sub/.git/a.bin",
            "/git.bin",
            "/out.bin",
            "/up/outside.bin",
            "/../outside.bin",
            "/%2e%2e/outside.bin",
            "/sub%2f..%2f..%2foutside.bin",
            "/lamp.otaru%00",
            "/nothing.bin",
            "/%zz.bin",
            "/..\\outside.bin",
        ] {
            assert!(!firmware.has(path) && !all.has(path), "{path}");
        }
    }
}
