//! One order: proof of each domain, key, request, certificate; top to bottom.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use otaru_rollout::Time;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use super::challenges::Challenges;
use super::domain::Domain;
use super::failure::Failure;
use super::pending::PendingOrder;
use crate::tls::error::TlsError;

/// Questions after an order: a second apart at first, for two minutes at most.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_secs(1)).backoff(1.5).timeout(Duration::from_secs(120));

/// Orders a certificate, proves the domains, and makes a key for it.
pub(super) async fn begin(
    account: &Account,
    domains: &[Domain],
    replaces: Option<CertificateIdentifier<'static>>,
    challenges: &Challenges,
    now: Time,
) -> Result<PendingOrder, Failure> {
    let names: Vec<Identifier> =
        domains.iter().map(|domain| Identifier::Dns(domain.as_str().to_owned())).collect();
    let mut new = NewOrder::new(&names);
    if let Some(replaces) = replaces {
        new = new.replaces(replaces);
    }
    let mut order = account.new_order(&new).await?;
    let wanted = order.state().authorizations.len();
    if wanted != domains.len() {
        return Err(Failure::OtherNumber { proofs: wanted, domains: domains.len() });
    }
    let proven = prove(&mut order, domains, challenges).await;
    challenges.close();
    proven?;
    let key = Zeroizing::new(KeyPair::generate().map_err(setup)?.serialize_pem());
    Ok(PendingOrder { url: order.url().to_owned(), domains: domains.to_vec(), key, at: now })
}

/// Asks for the certificate of an order that is proven, unless that was done before, and waits for it. Returns it with those that signed it, in
/// PEM.
pub(super) async fn finish(account: &Account, pending: &PendingOrder) -> Result<String, Failure> {
    let mut order = account.order(pending.url.clone()).await?;
    match order.state().status {
        OrderStatus::Ready => order.finalize_csr(&request(pending)?).await?,
        OrderStatus::Processing | OrderStatus::Valid => {}
        OrderStatus::Pending | OrderStatus::Invalid => return Err(Failure::OrderOver),
    }
    Ok(order.poll_certificate(&PATIENCE).await?)
}

/// Number of times that a directory is asked why an order was not proven, and the pause after each.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(250);

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
        outcome => Err(reason_in_time(order, domains).await?.unwrap_or_else(|| match outcome {
            Err(error) => error.into(),
            Ok(_) => Failure::OrderOver,
        })),
    }
}

/// Finds out which domain was not proven, and looks again for a moment: a directory may end an order before it tells.
async fn reason_in_time(order: &mut Order, domains: &[Domain]) -> Result<Option<Failure>, Failure> {
    for _ in 0..LOOKS {
        if let Some(failure) = reason(order, domains).await? {
            return Ok(Some(failure));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
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
    found.cloned().ok_or_else(|| Failure::OtherDomain(name.to_owned()))
}

/// Makes the request for a certificate.
fn request(pending: &PendingOrder) -> Result<Vec<u8>, TlsError> {
    let key = KeyPair::from_pem(&pending.key).map_err(setup)?;
    let names: Vec<String> = pending.domains.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(setup)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key).map_err(setup)?.der().to_vec())
}

fn setup(error: rcgen::Error) -> TlsError {
    TlsError::Setup(error.to_string())
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
            let outcome =
                begin(&account, std::slice::from_ref(&ours), None, &Challenges::default(), Time(7)).await;
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
        let outcome = begin(&account.await, &[ours], None, &Challenges::default(), Time(7)).await;
        let told = outcome.err().unwrap().to_string();
        assert!(told.contains("a proof of bank.example, which was not asked for"), "{told}");
    }
    fn pending() -> PendingOrder {
        let key = Zeroizing::new(KeyPair::generate().unwrap().serialize_pem());
        let domains = vec!["ota.example.com".parse().unwrap()];
        PendingOrder { url: "https://ca/mine/7".to_owned(), domains, key, at: Time(7) }
    }

    /// Outcome of an order that was made before, which the directory says to be in this state.
    async fn taken_up(state: &str) -> Result<String, Failure> {
        let order = format!(
            r#"{{"status":"{state}","authorizations":[],"finalize":"https://ca/finalize","certificate":"https://ca/certificate"}}"#
        );
        let done = order.replace(state, "valid");
        let account = Canned::account(vec![
            ("/mine/7", order),
            ("/finalize", done),
            ("/certificate", "the chain".to_owned()),
        ]);
        finish(&account.await, &pending()).await
    }

    #[tokio::test]
    async fn an_order_is_taken_up_again_with_its_own_key() {
        assert_eq!(taken_up("valid").await.unwrap(), "the chain");
        for over in ["invalid", "pending"] {
            assert!(matches!(taken_up(over).await, Err(Failure::OrderOver)), "{over}");
        }
        let pending = pending();
        let key = KeyPair::from_pem(&pending.key).unwrap();
        let request = request(&pending).unwrap();
        let raw = key.public_key_raw();
        assert!(request.windows(raw.len()).any(|part| part == raw), "of this key");
    }
}
