//! One order: account, order, proof of each domain, request, certificate; top to bottom.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use super::challenges::Challenges;
use super::client::DirectoryClient;
use super::config::AcmeConfig;
use super::domain::Domain;
use super::failure::Failure;
use super::store::Store;
use crate::tls::error::TlsError;

/// Questions after an order: a second apart at first, for two minutes at most.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_secs(1)).backoff(1.5).timeout(Duration::from_secs(120));

/// A certificate that was got, in PEM.
pub(super) struct Issued {
    /// The certificate, and those between it and the directory's root.
    pub(super) chain: String,
    /// Key, as PEM text.
    pub(super) key: Zeroizing<String>,
}

/// Opens the account, or makes one, by which the directory's terms are agreed to.
pub(super) async fn account(
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
    Ok(account)
}

/// Orders a certificate, and waits for it.
pub(super) async fn order(
    account: &Account,
    domains: &[Domain],
    replaces: Option<CertificateIdentifier<'static>>,
    challenges: &Challenges,
) -> Result<Issued, Failure> {
    let names: Vec<Identifier> =
        domains.iter().map(|domain| Identifier::Dns(domain.as_str().to_owned())).collect();
    let mut new = NewOrder::new(&names);
    if let Some(replaces) = replaces {
        new = new.replaces(replaces);
    }
    let mut order = account.new_order(&new).await?;
    let wanted = order.state().authorizations.len();
    if wanted != domains.len() {
        return Err(Failure::OtherOrder(wanted, domains.len()));
    }
    let proven = prove(&mut order, domains, challenges).await;
    challenges.close();
    proven?;
    let (request, key) = request(domains)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Issued { chain, key })
}

/// Proves every domain that the directory does not know as ours yet.
async fn prove(order: &mut Order, domains: &[Domain], challenges: &Challenges) -> Result<(), Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let domain = domain(&authorization.identifier().to_string(), domains)?;
        let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
            return Err(Failure::NoChallenge(domain));
        };
        challenges.answer(&domain, challenge.key_authorization().digest().as_ref())?;
        challenge.set_ready().await?;
    }
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Err(instant_acme::Error::Timeout(_)) => Err(Failure::Late),
        outcome => Err(reason(order, domains).await?.unwrap_or_else(|| match outcome {
            Err(error) => error.into(),
            Ok(_) => instant_acme::Error::Str("an order that can still be proven").into(),
        })),
    }
}

/// Finds out which domain was not proven, and why.
async fn reason(order: &mut Order, domains: &[Domain]) -> Result<Option<Failure>, Failure> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        authorization.refresh().await?;
        let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.clone());
        if let Some(problem) = problem {
            let domain = domain(&authorization.identifier().to_string(), domains)?;
            return Ok(Some(Failure::Unproven { domain, problem }));
        }
    }
    Ok(None)
}

/// Returns the domain of ours that a directory means.
fn domain(name: &str, domains: &[Domain]) -> Result<Domain, Failure> {
    let found = domains.iter().find(|domain| domain.as_str().eq_ignore_ascii_case(name));
    found.cloned().ok_or_else(|| Failure::OtherOrder(domains.len() + 1, domains.len()))
}

/// Makes a key, and the request for its certificate.
fn request(domains: &[Domain]) -> Result<(Vec<u8>, Zeroizing<String>), TlsError> {
    let setup = |error: rcgen::Error| TlsError::Setup(error.to_string());
    let key = KeyPair::generate().map_err(setup)?;
    let names: Vec<String> = domains.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(setup)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(setup)?;
    Ok((request.der().to_vec(), Zeroizing::new(key.serialize_pem())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::canned::Canned;

    #[tokio::test]
    async fn an_order_for_something_else_is_given_up() {
        let ours: Domain = "ota.example.com".parse().unwrap();
        for (urls, told) in [(r#""https://ca/a","https://ca/b""#, "2 proofs for 1"), ("", "0 proofs for 1")] {
            let answer = format!(
                r#"{{"status":"pending","authorizations":[{urls}],"finalize":"https://ca/finalize"}}"#
            );
            let account = Canned::account(vec![("/order", answer)]).await;
            let outcome = order(&account, std::slice::from_ref(&ours), None, &Challenges::default()).await;
            let told_so = outcome.err().unwrap().to_string();
            assert!(told_so.contains(told), "{told_so}");
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_asked_for_is_not_proven() {
        let ours: Domain = "ota.example.com".parse().unwrap();
        let challenge = r#"{"type":"tls-alpn-01","url":"https://ca/c","token":"t","status":"pending"}"#;
        let account = Canned::account(vec![
            (
                "/order",
                r#"{"status":"pending","authorizations":["https://ca/a"],"finalize":"https://ca/f"}"#
                    .to_owned(),
            ),
            (
                "/a",
                format!(
                    r#"{{"identifier":{{"type":"dns","value":"bank.example"}},"status":"pending","challenges":[{challenge}]}}"#
                ),
            ),
        ]);
        let outcome = order(&account.await, &[ours], None, &Challenges::default()).await;
        assert!(matches!(outcome, Err(Failure::OtherOrder(..))));
    }
}
