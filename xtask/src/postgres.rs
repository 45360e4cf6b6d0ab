//! PostgreSQL for measurements, as `with-postgres` of otaru-testing starts it.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::shell::{find, program};

/// Names the server that is used, as for tests: the beginning of the URLs of its databases.
pub(crate) const SERVER: &str = "OTARU_TEST_POSTGRES";

/// Has a database do something, and returns what it printed.
///
/// # Errors
/// Returns an error if there is no `psql`, or it fails.
pub(crate) fn psql(url: &str, sql: &str) -> Result<String> {
    ensure!(find("psql").is_some(), "no psql; on Debian: apt-get install postgresql-client");
    let mut command: Command = program("psql");
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, url]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "psql failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
