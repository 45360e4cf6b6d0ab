//! Runs a command while there is a PostgreSQL server for tests, and names it to them: `with-postgres COMMAND [ARGUMENT]…`.
#![forbid(unsafe_code)]

use std::process::{Command, ExitCode};

use otaru_testing::postgres::{Postgres, SHARED};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("with-postgres COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let Some(server) = Postgres::start() else { return ExitCode::from(3) };
    let status = Command::new(program).args(words).env(SHARED, server.server_url()).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cannot run it: {error}");
            ExitCode::FAILURE
        }
    }
}
