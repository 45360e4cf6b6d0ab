//! Names of files in a store: `ab/cdef…`, so that no folder grows too long.

use std::path::PathBuf;

use object_store::path::Path as Key;
use otaru_format::digest::Digest;

/// Returns the key of a file.
pub(super) fn key(digest: Digest) -> Key {
    let hex = digest.to_string();
    let (folder, name) = hex.split_at(2);
    Key::from_iter([folder, name])
}

/// Returns the same as a path in the store's folder.
pub(crate) fn path_of(digest: Digest) -> PathBuf {
    PathBuf::from(key(digest).as_ref())
}

/// Returns the digest that a key names; `None` for whatever else there is.
pub(super) fn digest_of(key: &Key) -> Option<Digest> {
    let parts: Vec<_> = key.parts().collect();
    let [folder, name] = parts.as_slice() else { return None };
    let hex = format!("{}{}", folder.as_ref(), name.as_ref());
    (folder.as_ref().len() == 2).then(|| hex.parse().ok()).flatten()
}
