//! Options of certificates from a directory (ACME).

use std::path::PathBuf;

use anyhow::bail;
use otaru_server::tls::acme::{AcmeConfig, Domain, LETS_ENCRYPT, MOST_DOMAINS};

use crate::trust;

/// Options of certificates from a directory.
#[derive(clap::Args)]
pub(super) struct AcmeArgs {
    /// Speak TLS with a certificate for this domain that the server gets from Let's Encrypt and renews by itself, by which you agree to the
    /// terms of Let's Encrypt; may be given several times. Port 443 of the domain has to lead from the Internet to --https, which is
    /// 0.0.0.0:443 then; no other port is needed. Account and certificates are kept in the data folder
    #[arg(long, value_name = "DOMAIN", conflicts_with_all = ["tls_cert", "tls_dev"], help_heading = "TLS")]
    acme: Vec<Domain>,
    /// Address at which the directory may write to you; told when the account is made
    #[arg(long, value_name = "ADDRESS", requires = "acme", help_heading = "TLS")]
    acme_email: Option<String>,
    /// Get it from another directory that speaks ACME and challenges by tls-alpn-01, to whose terms you agree
    #[arg(long, value_name = "URL", requires = "acme", default_value = LETS_ENCRYPT, help_heading = "TLS")]
    acme_directory: String,
    /// PEM file of the CAs that the directory may be of; otherwise as --ca
    #[arg(long, value_name = "PEM", requires = "acme", help_heading = "TLS")]
    acme_ca: Option<PathBuf>,
}

impl AcmeArgs {
    /// Whether a certificate is to be got.
    pub(super) fn is_wanted(&self) -> bool {
        !self.acme.is_empty()
    }

    /// Returns the beginning of links, where nothing else is said.
    pub(super) fn public_url(&self) -> Option<String> {
        self.acme.first().map(|domain| format!("https://{domain}"))
    }

    /// Returns what they say.
    pub(super) fn config(self) -> anyhow::Result<AcmeConfig> {
        let Self { acme: mut domains, acme_email: email, acme_directory: directory, acme_ca } = self;
        let count = domains.len();
        let first = domains.first().cloned();
        domains.sort();
        domains.dedup();
        // The one that is named first is the one in links.
        domains.sort_by_key(|domain| Some(domain) != first.as_ref());
        if domains.len() > MOST_DOMAINS {
            bail!(
                "--acme is given {count} times: a certificate has {MOST_DOMAINS} domains at most, since chips read all of it"
            );
        }
        if !is_https(&directory) {
            bail!("--acme-directory is https://HOST[:PORT]/PATH");
        }
        if email.as_deref().is_some_and(|email| !is_email(email)) {
            bail!("--acme-email is an address, such as you@example.com");
        }
        let trust = trust::read(trust::of_this_run(), acme_ca.as_deref(), None)?;
        Ok(AcmeConfig { domains, email, directory, trust })
    }
}

fn is_https(url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]?=&".contains(&byte);
    let rest = url.strip_prefix("https://").unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[') && rest.bytes().all(plain)
}

/// Whether a text is one address: a directory takes several, and settings of theirs, behind signs that none has.
fn is_email(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+@".contains(&byte);
    text.bytes().all(good)
        && text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.contains('@') && host.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_spoken_to_over_tls() {
        for good in [LETS_ENCRYPT, "https://localhost:14000/dir", "https://[::1]:9/acme/acme/directory"] {
            assert!(is_https(good), "{good}");
        }
        for bad in [
            "http://ca.example/dir",
            "https://",
            "https:///dir",
            "https://a b/",
            "ca.example",
            "https://a@b/",
        ] {
            assert!(!is_https(bad), "{bad}");
        }
    }

    #[test]
    fn an_email_is_one_address() {
        assert!(is_email("you+ota@example.com"));
        for bad in ["you", "@example.com", "you@host", "a@b.c,d@e.f", "a@b.c?subject=x", "a b@c.d", "a@b@c.d"]
        {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
