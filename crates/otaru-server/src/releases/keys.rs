//! Keys that sign releases here, and those that are trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use otaru_release::keys::{KeyError, PublicKey, SecretKey};

/// The keys of a server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    signer: Option<Arc<SecretKey>>,
    trusted: Arc<[PublicKey]>,
}

impl Keys {
    /// Reads them: the private key that signs, if there is one, and public keys of others.
    ///
    /// # Errors
    /// When a file is no such key.
    pub fn read(signer: Option<&Path>, trusted: &[PathBuf]) -> Result<Self, KeyError> {
        let signer = signer.map(SecretKey::read).transpose()?;
        let trusted: Result<Vec<_>, _> = trusted.iter().map(|path| PublicKey::read(path)).collect();
        Ok(Self::new(signer, trusted?))
    }

    /// From keys at hand. What a server signs itself, it trusts.
    pub fn new(signer: Option<SecretKey>, trusted: Vec<PublicKey>) -> Self {
        let own = signer.as_ref().map(SecretKey::public);
        Self { trusted: own.into_iter().chain(trusted).collect(), signer: signer.map(Arc::new) }
    }

    /// The key that signs releases.
    pub fn signer(&self) -> Option<&Arc<SecretKey>> {
        self.signer.as_ref()
    }

    /// Returns the release files that are made with these keys.
    pub fn makes(&self) -> Makes {
        match (&self.signer, self.trusted()) {
            (Some(_), _) => Makes::Signed,
            (None, []) => Makes::Unsigned,
            (None, _) => Makes::Nothing,
        }
    }

    /// Returns the keys whose releases are taken. None: then everybody's are, and devices judge for themselves.
    pub fn trusted(&self) -> &[PublicKey] {
        &self.trusted
    }
}

/// Kinds of release files that this server makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Makes {
    /// Signed ones, of every image.
    Signed,
    /// Unsigned ones, where an image is called otherwise than it calls itself: a bare image can be called by its own name only.
    Unsigned,
    /// None: there is no key here, and only files that others signed are trusted.
    Nothing,
}
