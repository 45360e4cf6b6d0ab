//! The server and token that `otaru login` remembers, in a file that only its owner can read.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use otaru_broker::client::Secret;
use otaru_release::output::{Access, Existing, write};
use serde::{Deserialize, Serialize};

/// A server and a token for it.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// `http://host:port`, without a slash at the end.
    pub(crate) server: String,
    pub(crate) token: Secret,
    /// File of the CAs to trust there; without one, whom this program trusts anyway.
    pub(crate) ca: Option<PathBuf>,
}

/// A login as it stands in the file.
#[derive(Serialize, Deserialize)]
struct StoredLogin {
    server: String,
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

/// The file: `$XDG_CONFIG_HOME/otaru/login.json`, or in `~/.config`.
///
/// # Errors
/// When neither is known.
pub(crate) fn path() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    Ok(config.context("HOME is not set: give --server and --token-file")?.join("otaru").join("login.json"))
}

/// Returns the login that is remembered, if any.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read() -> anyhow::Result<Option<Login>> {
    let Ok(path) = path() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    match serde_json::from_str(&text) {
        Ok(StoredLogin { server, token, ca }) => Ok(Some(Login { server, token: Secret::new(token), ca })),
        // The reason is not told: it could quote the token.
        Err(_) => bail!("{} is damaged; `otaru login URL` writes it anew", path.display()),
    }
}

/// Remembers a login in place of the one before.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn keep(login: &Login) -> anyhow::Result<PathBuf> {
    let path = path()?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text = serde_json::to_string(&StoredLogin {
        server: login.server.clone(),
        token: login.token.expose().to_owned(),
        ca: login.ca.clone(),
    })?;
    write(&path, text.as_bytes(), Access::Private, Existing::Replace)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Forgets it; says whether there was one.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn forget() -> anyhow::Result<bool> {
    match std::fs::remove_file(path()?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A server's address as it is kept: with a scheme, without a slash at the end, and no login in it.
///
/// # Errors
/// When it is not one.
pub(crate) fn normal(url: &str) -> anyhow::Result<String> {
    let url = url.trim();
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        Some(host) if host.trim_matches('/').is_empty() || host.contains(char::is_whitespace) => {
            bail!("the server's address has no host: http://HOST:8080")
        }
        Some(host) if host.contains('@') => bail!("leave the login out of the server's address"),
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => bail!("the server's address begins with http:// or https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_one_form() {
        assert_eq!(normal("localhost:8080").unwrap(), "http://localhost:8080");
        assert_eq!(normal(" https://ota.example/ ").unwrap(), "https://ota.example");
        for bad in ["", "ftp://x", "http://", "http://me:secret@host"] {
            let error = normal(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
