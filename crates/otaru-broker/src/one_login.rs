//! One login that everybody shares, or that a program has for itself.

use otaru_format::digest::Digest;

use crate::client::Login;
use crate::policy::ConnectRequest;

/// A user name with its password. Only their hash is kept, whose comparison tells nothing about the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneLogin(Digest);

impl OneLogin {
    /// Keeps the hash of a login.
    pub fn new(login: &Login) -> Self {
        Self(hash(login.username.as_bytes(), login.password.expose().as_bytes()))
    }

    /// Whether a request brings this login.
    pub fn admits(&self, request: &ConnectRequest) -> bool {
        match (&request.username, &request.password) {
            (Some(username), Some(password)) => hash(username.as_bytes(), password.expose()) == self.0,
            _ => false,
        }
    }
}

/// Hashes both apart first, so that no two logins are the same bytes.
fn hash(username: &[u8], password: &[u8]) -> Digest {
    let mut bytes = Digest::of(username).0.to_vec();
    bytes.extend(Digest::of(password).0);
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::client::Secret;
    use crate::policy::Password;
    use crate::version::Version;

    #[test]
    fn only_the_whole_login_is_admitted() {
        let login = OneLogin::new(&Login { username: "fleet".into(), password: Secret::new("blue") });
        let request = |username: Option<&str>, password: Option<&str>| ConnectRequest {
            client: "lamp".into(),
            username: username.map(str::to_owned),
            password: password.map(|text| Password::new(text.as_bytes())),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            proxy: None,
            version: Version::V5,
            channel: crate::channel::Channel::Plain,
        };
        assert!(login.admits(&request(Some("fleet"), Some("blue"))));
        for (username, password) in [
            (Some("fleet"), Some("red")),
            (Some("flee"), Some("tblue")),
            (Some("fleet"), None),
            (None, Some("blue")),
            (None, None),
        ] {
            assert!(!login.admits(&request(username, password)), "{username:?} {password:?}");
        }
    }
}
