//! Table `[tls]` of the file: whom a device trusts over TLS, what it shows of itself, and where it asks for the time.

use std::fmt;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::error::FileError;
use crate::public;
use crate::trust::{self, BadPem, MOST_CAS};

/// Whom a device trusts over TLS, and what it shows of itself. This is built in, too.
#[derive(PartialEq, Eq)]
pub struct Tls {
    /// CAs, as DER: those of one's own, then the public ones.
    pub cas: Vec<Vec<u8>>,
    /// Whether the public roots are among them.
    pub public: bool,
    /// The device's certificate and its key, as DER.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Server that is asked for the time; `None` if nobody is.
    pub time_server: Option<String>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("cas", &self.cas.len())
            .field("public", &self.public)
            .field("identity", &self.identity.is_some())
            .field("time_server", &self.time_server)
            .finish()
    }
}

/// TLS that a firmware is built with, of which there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// With EC on P-256 only.
    OwnServer,
    /// With RSA and P-384 too.
    AnyServer,
    /// With whatever a Mbed TLS has that somebody else has compiled, RSA and P-384 among it.
    Prebuilt,
}

impl Preset {
    /// Returns the preset of this name, as `cargo xtask firmware --tls` has it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "own-server" => Some(Self::OwnServer),
            "any-server" => Some(Self::AnyServer),
            "prebuilt" => Some(Self::Prebuilt),
            _ => None,
        }
    }
}

/// Server that is asked for the time where no other is named.
pub const TIME_SERVER: &str = "pool.ntp.org";

/// Word in `ca` for the roots of [`public`].
const PUBLIC: &str = "public";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    ca: Spanned<Value>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    time_server: Option<Spanned<String>>,
}

/// Reads whom TLS trusts.
pub(super) fn read(table: TlsTable, wrong: &impl Fn(usize, &str) -> FileError) -> Result<Tls, FileError> {
    let bad = |at: &Spanned<String>| {
        let at = at.span().start;
        move |error: BadPem| wrong(at, &error.to_string())
    };
    let TlsTable { ca, certificate, key, time_server } = table;
    let at = ca.span().start;
    let (cas, public) = trusted(ca.get_ref()).map_err(|why| wrong(at, &why))?;
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let found = trust::certificates(certificate.get_ref(), 1).map_err(bad(&certificate))?;
            let key = trust::private_key(key.get_ref()).map_err(bad(&key))?;
            found.into_iter().next().map(|certificate| (certificate, key))
        }
        (Some(alone), None) | (None, Some(alone)) => {
            return Err(wrong(alone.span().start, "certificate and key go together"));
        }
    };
    let time_server = match time_server {
        None => Some(TIME_SERVER.to_owned()),
        Some(server) if server.get_ref() == "off" => None,
        Some(server) => {
            let named = otaru_format::name::host(server.get_ref());
            let at = server.span().start;
            named.map_err(|why| wrong(at, &format!("the time server {}", why.as_str())))?;
            Some(server.into_inner())
        }
    };
    Ok(Tls { cas, public, identity, time_server })
}

/// Reads `ca`: PEM text, [`PUBLIC`], or a list of both. Returns the CAs, and whether the public roots are among them.
fn trusted(ca: &Value) -> Result<(Vec<Vec<u8>>, bool), String> {
    const FORM: &str = "ca is \"public\", PEM text between three quotation marks, or a list of both";
    let entries = match ca {
        Value::Array(entries) => entries.iter().collect(),
        one => vec![one],
    };
    let texts: Option<Vec<&str>> = entries.into_iter().map(Value::as_str).collect();
    let texts = texts.filter(|texts| !texts.is_empty()).ok_or(FORM)?;
    let (named, pems): (Vec<&str>, Vec<&str>) = texts.into_iter().partition(|text| *text == PUBLIC);
    let mut cas = Vec::new();
    for pem in pems {
        cas.extend(trust::certificates(pem, MOST_CAS).map_err(|why| why.to_string())?);
    }
    if cas.len() > MOST_CAS {
        return Err(BadPem::TooMany.to_string());
    }
    if !named.is_empty() {
        cas.extend(public::certificates().map_err(|why| why.to_string())?);
    }
    Ok((cas, !named.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const UNSIGNED: &str = "[updates]\nallow_unsigned = true\n";
    /// Of no CA, but of its form.
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\n";

    fn with(lines: &str) -> Result<Tls, FileError> {
        read(&format!("{UNSIGNED}[tls]\n{lines}")).map(|contents| contents.tls.unwrap())
    }

    #[test]
    fn tls_has_a_certificate_of_its_own_and_a_clock() {
        let tls = |lines: &str| with(&format!("ca = '''{PEM}'''\n{lines}"));
        let key = "-----BEGIN PRIVATE KEY-----\nMAMCAQc=\n-----END PRIVATE KEY-----\n";
        let own = tls(&format!("certificate = '''{PEM}'''\nkey = '''{key}'''\n")).unwrap();
        assert_eq!(own.identity, Some((vec![0x30, 3, 2, 1, 7], vec![0x30, 3, 2, 1, 7])));
        assert!(!format!("{own:?}").contains('7'), "the key is not printed");
        assert_eq!(tls("time_server = '192.168.1.1'").unwrap().time_server.as_deref(), Some("192.168.1.1"));
        assert_eq!(tls("time_server = 'off'").unwrap().time_server, None);
        for (lines, line, what) in [
            (format!("certificate = '''{PEM}'''"), 8, "go together"),
            (format!("key = '''{key}'''"), 8, "go together"),
            (format!("certificate = '''{PEM}{PEM}'''\nkey = '''{key}'''"), 8, "more certificates"),
            (format!("certificate = '''{PEM}'''\nkey = '''{PEM}'''"), 12, "a key is wanted"),
            ("time_server = 'ntp://a'".to_owned(), 8, "the time server"),
        ] {
            let error = tls(&lines).unwrap_err();
            assert!(error.line == line && error.what.contains(what), "{lines}: {error}");
        }
    }

    #[test]
    fn public_roots_are_trusted_by_a_word_and_beside_cas_of_ones_own() {
        let roots = public::certificates().unwrap();
        let alone = with("ca = 'public'").unwrap();
        assert!(alone.public && alone.cas == roots);
        let both = with(&format!("ca = ['public', '''{PEM}{PEM}''',\n'''{PEM}''']")).unwrap();
        assert!(both.public && both.cas.len() == 3 + roots.len() && both.cas.ends_with(&roots));
        let own = with(&format!("ca = ['''{PEM}''']")).unwrap();
        assert!(!own.public && own.cas.len() == 1);
    }

    #[test]
    fn whom_to_trust_is_said_in_full() {
        let most = PEM.repeat(MOST_CAS);
        assert_eq!(with(&format!("ca = '''{most}'''")).unwrap().cas.len(), MOST_CAS);
        for (ca, what) in [
            ("'ca.pem'".to_owned(), "names a file"),
            ("'Public'".to_owned(), "no PEM text"),
            ("[]".to_owned(), "a list of both"),
            ("true".to_owned(), "a list of both"),
            ("['public', 1]".to_owned(), "a list of both"),
            ("['public', 'ca.pem']".to_owned(), "names a file"),
            (format!("['''{most}''', '''{PEM}''']"), "more certificates"),
        ] {
            let error = with(&format!("ca = {ca}")).unwrap_err();
            assert!(error.line == 4 && error.what.contains(what), "{ca}: {error}");
        }
    }
}
