//! The account at a directory.

use instant_acme::{Account, NewAccount};

use super::client::DirectoryClient;
use super::config::AcmeConfig;
use super::failure::Failure;
use super::store::Store;
use crate::text;

/// Bytes of the longest URL of terms that is told.
const LONGEST_TERMS: usize = 400;

/// Opens the account, or makes one, by which the directory's terms are agreed to.
pub(super) async fn open(
    store: &Store,
    config: &AcmeConfig,
    client: &DirectoryClient,
) -> Result<Account, Failure> {
    let builder = Account::builder_with_http(Box::new(client.clone()));
    if let Some(kept) = store.account() {
        return Ok(builder.from_credentials(kept).await?);
    }
    let contact = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, config.directory.clone(), None).await?;
    store.keep_account(&credentials)?;
    let mut terms = client.remarks().terms.unwrap_or_else(|| "none that it names".to_owned());
    text::cut(&mut terms, LONGEST_TERMS);
    tracing::info!(terms, "an account was made at the directory; by --acme its terms are agreed to");
    Ok(account)
}

/// Puts an account aside that the directory says it does not know, and tells so.
pub(super) fn set_aside(store: &Store) {
    match store.set_account_aside() {
        Ok(file) => tracing::warn!(
            file = %file.display(),
            "the directory does not know the account any more: its file is put aside, and another account is made with the next attempt"
        ),
        Err(error) => tracing::error!(%error, "the directory does not know the account any more"),
    }
}
