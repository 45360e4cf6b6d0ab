//! Reads a credentials file as the firmware's build does, in a second rather than after minutes of compiling:
//!
//! ```text
//! check-credentials FILE [own-server|any-server|prebuilt]
//! ```
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use otaru_setup::file::{self, Preset};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: name a credentials file");
        return ExitCode::FAILURE;
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let preset = env::args().nth(2).and_then(|name| Preset::named(&name));
    match file::read(&text).map(|contents| contents.unfit(preset)) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(why)) => eprintln!("error: {}: {why}", path.display()),
        Err(error) => {
            let example = "network_credentials.example.toml shows how it should look";
            eprintln!("error: {}:{}: {}; {example}", path.display(), error.line, error.what);
        }
    }
    ExitCode::FAILURE
}
