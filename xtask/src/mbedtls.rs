//! Tools that compile Mbed TLS, for the firmware's TLS and for its tests on this machine.

use std::env;
use std::fs;

use crate::shell::find;

/// Programs, and Debian's packages that they come in.
pub(crate) const PROGRAMS: [(&str, &str); 3] =
    [("clang", "clang"), ("cmake", "cmake"), ("ninja", "ninja-build")];
/// Debian's package of the library by which C's declarations are read.
pub(crate) const LIBRARY: &str = "libclang-dev";

/// Tells what is missing, and how to come by it; `None` where nothing is.
pub(crate) fn remedy() -> Option<String> {
    let programs = PROGRAMS.into_iter().filter(|(name, _)| find(name).is_none()).map(|(_, package)| package);
    let missing: Vec<&str> = programs.chain((!has_library()).then_some(LIBRARY)).collect();
    (!missing.is_empty())
        .then(|| format!("Mbed TLS cannot be compiled: apt-get install {}", missing.join(" ")))
}

/// Whether there is a libclang where it is looked for.
pub(crate) fn has_library() -> bool {
    let versions =
        fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let versions = versions.filter(|path| path.to_string_lossy().contains("/llvm"));
    let mut folders = versions.map(|path| path.join("lib"));
    let is_library = |name: &str| name.starts_with("libclang.so") || name.starts_with("libclang-");
    env::var_os("LIBCLANG_PATH").is_some()
        || folders.any(|folder| {
            let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            files.map(|file| file.file_name()).any(|name| is_library(&name.to_string_lossy()))
        })
}
