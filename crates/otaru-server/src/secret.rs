//! Random secrets, and what is kept of them.

use otaru_format::digest::Digest;

/// A secret as it is given out: `<kind>_<id>_<secret>`. The id finds the row, the secret proves the right to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Id of the row.
    pub id: &'a str,
    /// The part that only its owner knows.
    secret: &'a str,
}

/// Takes a secret of this kind apart.
pub fn parse<'a>(kind: &str, text: &'a str) -> Option<Parts<'a>> {
    let (id, secret) = text.strip_prefix(kind)?.strip_prefix('_')?.split_once('_')?;
    let hex = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex(id, 8) && hex(secret, 64)).then_some(Parts { id, secret })
}

impl Parts<'_> {
    /// Returns what is kept of it. Comparing hashes tells nothing about what they are of.
    pub fn hash(&self) -> Digest {
        hash(self.secret)
    }
}

/// Returns what is kept of a secret.
pub fn hash(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

/// A new secret: its id, what is kept, and the text that is given out once.
#[derive(Debug)]
pub struct Made {
    /// Id of the row.
    pub id: String,
    /// The hash that is kept.
    pub hash: Digest,
    /// The text that is given out.
    pub text: String,
}

/// Makes a secret of this kind with 256 random bits.
///
/// # Errors
/// When the system has no randomness.
pub fn make(kind: &str) -> Result<Made, getrandom::Error> {
    let (id, secret) = (random_hex(4)?, random_hex(32)?);
    Ok(Made { hash: hash(&secret), text: format!("{kind}_{id}_{secret}"), id })
}

/// A password for one device.
///
/// # Errors
/// When the system has no randomness.
pub fn password() -> Result<String, getrandom::Error> {
    random_hex(16)
}

/// Makes an id that nothing else has: 64 random bits.
///
/// # Errors
/// When the system has no randomness.
pub fn random_id() -> Result<String, getrandom::Error> {
    random_hex(8)
}

fn random_hex(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(hex::encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_id_and_proved_by_the_rest() {
        let made = make("otaru").unwrap();
        let parts = parse("otaru", &made.text).unwrap();
        assert_eq!((parts.id, parts.hash()), (made.id.as_str(), made.hash));
        assert_ne!(make("otaru").unwrap().hash, made.hash);
        for bad in
            ["", "otaru", "otaru_1_2", "fleet_00000000_00", &made.text[..60], &format!("{}0", made.text)]
        {
            assert_eq!(parse("otaru", bad), None, "{bad}");
        }
    }
}
