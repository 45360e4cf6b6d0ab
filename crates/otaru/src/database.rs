//! Options that say where the database of a fleet is, and its password.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use otaru_broker::client::Secret;
use otaru_server::db::PostgresSettings;

use crate::{options, trust};

/// Where the database is.
#[derive(clap::Args)]
pub(crate) struct DatabaseArgs {
    /// The fleet is in this PostgreSQL database, not in a file in --data: `postgres://USER@HOST[:PORT]/DATABASE`; on another machine over TLS
    #[arg(long, value_name = "URL", env = "OTARU_DATABASE", help_heading = "Database")]
    database: Option<String>,
    /// A file whose first line is the password for --database; otherwise that of PGPASSFILE, or ~/.pgpass
    #[arg(long, value_name = "FILE", requires = "database", help_heading = "Database")]
    database_password_file: Option<PathBuf>,
    /// PEM file of the CAs that the server of --database may be of; otherwise as --ca
    #[arg(long, value_name = "PEM", requires = "database", help_heading = "Database")]
    database_ca: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Returns where PostgreSQL is, if it is used.
    pub(crate) fn settings(&self) -> anyhow::Result<Option<Box<PostgresSettings>>> {
        let Some(url) = &self.database else { return Ok(None) };
        let (password, ca) = (self.database_password_file.as_deref(), self.database_ca.as_deref());
        settings(url, password, ca).context("--database").map(|settings| Some(Box::new(settings)))
    }

    /// Returns the options that another command needs for the same database, if PostgreSQL is used.
    pub(crate) fn options(&self) -> Option<String> {
        let mut options = format!("--database {}", self.database.as_deref()?);
        for (name, file) in
            [("--database-password-file", &self.database_password_file), ("--database-ca", &self.database_ca)]
        {
            if let Some(file) = file {
                options.push_str(&format!(" {name} {}", file.display()));
            }
        }
        Some(options)
    }
}

/// Returns where PostgreSQL is, with the password of a file, or of the one that PostgreSQL's own programs have.
pub(crate) fn settings(
    url: &str,
    password_file: Option<&Path>,
    ca: Option<&Path>,
) -> anyhow::Result<PostgresSettings> {
    let trust = trust::read(trust::of_this_run(), ca, None)?;
    let settings = PostgresSettings::parse(url, trust)?;
    let password = match password_file {
        Some(file) => Some(options::first_line(file)?),
        None => from_password_file(&settings)?,
    };
    Ok(match &password {
        Some(password) => settings.with_password(password),
        None => settings,
    })
}

/// Looks the password up in PGPASSFILE, or in ~/.pgpass, as PostgreSQL's own programs do (its documentation, "The Password File").
fn from_password_file(settings: &PostgresSettings) -> anyhow::Result<Option<Secret>> {
    let (file, is_named) = match std::env::var_os("PGPASSFILE") {
        Some(file) => (PathBuf::from(file), true),
        None => match std::env::home_dir() {
            Some(home) => (home.join(".pgpass"), false),
            None => return Ok(None),
        },
    };
    if !is_named && !file.is_file() {
        return Ok(None);
    }
    let text = read_private(&file)?;
    Ok(text.lines().find_map(|line| password(line, settings)).map(Secret::new))
}

/// Reads a file that nobody else may read.
fn read_private(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).with_context(|| format!("cannot read {shown}"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!("others may read the passwords in {shown}; run `chmod 600 {shown}`");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))
}

/// Returns the password of a line `host:port:database:user:password`, if it is for this login. `*` stands for anything, and a backslash
/// for the character after it.
fn password(line: &str, settings: &PostgresSettings) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (host, port, database, user) = settings.login();
    let fields = fields(line);
    let [hosts, ports, databases, users, password] = fields.as_slice() else { return None };
    let is = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    let fits =
        is(hosts, &host) && is(ports, &port.to_string()) && is(databases, &database) && is(users, &user);
    fits.then(|| password.clone())
}

/// Splits a line at its first four colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use otaru_tls::Trust;

    use super::*;

    #[test]
    fn a_line_fits_the_login_it_names() {
        let settings =
            PostgresSettings::parse("postgres://otaru@db.lan:5433/fleet?sslmode=disable", Trust::default())
                .unwrap();
        let found = |line: &str| password(line, &settings);
        assert_eq!(found("db.lan:5433:fleet:otaru:secret").as_deref(), Some("secret"));
        assert_eq!(found("*:*:*:otaru:se\\:cr\\\\et").as_deref(), Some("se:cr\\et"));
        assert_eq!(found("*:*:*:*:a:b").as_deref(), Some("a:b"));
        assert_eq!(found("db.lan:5432:fleet:otaru:secret"), None);
        assert_eq!(found("#*:*:*:*:secret"), None);
        assert_eq!(found("db.lan:5433"), None);
    }
}
