//! Reads a credentials file as the firmware's build does, in a second rather than after minutes of compiling.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let Some(file) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: name a credentials file");
        return ExitCode::FAILURE;
    };
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = otaru_setup::file::read(&text) {
        let example = "network_credentials.example.toml shows how it should look";
        eprintln!("error: {}:{}: {}; {example}", file.display(), error.line, error.what);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
