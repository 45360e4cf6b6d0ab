//! Orders that fail, in words that say what to do.

use instant_acme::{Error, Problem};
use otaru_tls::TrustError;

use super::chain::Unfit;
use super::client::ClientError;
use super::domain::Domain;
use crate::text;
use crate::tls::error::TlsError;

/// Bytes of the longest remark of a directory that is repeated.
const LONGEST: usize = 400;

/// Reason that there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The directory did not get its proof of a domain.
    #[error("{}", unproven(domain, problem))]
    Unproven {
        /// The domain.
        domain: Domain,
        /// Words of the directory.
        problem: Problem,
    },
    /// The directory wants other proof than ours.
    #[error(
        "the directory does not offer tls-alpn-01 for {0}, the one challenge that is answered here; take another directory"
    )]
    NoChallenge(Domain),
    /// An order with more or fewer authorizations than domains that were asked for.
    #[error("the directory wants {proofs} proofs for {domains} domains; is --acme-directory right?")]
    OtherNumber {
        /// Number of authorizations.
        proofs: usize,
        /// Number of domains.
        domains: usize,
    },
    /// An authorization of something that was not asked for.
    #[error("the directory wants a proof of {}, which was not asked for; is --acme-directory right?", bounded(.0.clone()))]
    OtherDomain(String),
    /// An order that is not done in time.
    #[error("the directory did not finish the order in time")]
    Late,
    /// A panic of the library over what the directory said.
    #[error("the directory's answer breaks the library that reads it; is --acme-directory right?")]
    Broken,
    /// A certificate that will not do.
    #[error("the directory's certificate will not do: {0}")]
    Unfit(#[from] Unfit),
    /// An order that can come to no certificate any more.
    #[error(
        "the directory does not go on with the order that was under way; another is made with the next attempt"
    )]
    OrderOver,
    /// Whatever else the directory or the library says.
    #[error("{}", words(.0))]
    Directory(#[from] Error),
    /// No roots to trust.
    #[error("whom to trust is not known: {0}")]
    Trust(#[from] TrustError),
    /// Files.
    #[error(transparent)]
    Files(#[from] TlsError),
}

impl Failure {
    /// Whether the order under way is given up over it: where the directory refuses it, or once it `is_old` and the directory brings it to no
    /// end. A directory that is not reached may have its certificate all the same.
    pub(super) fn ends_order(&self, is_old: bool) -> bool {
        match self {
            // Its key is no key any more.
            Self::Files(TlsError::Setup(_)) => true,
            Self::Files(_) | Self::Trust(_) | Self::Directory(Error::Other(_)) => false,
            Self::Late | Self::Unfit(Unfit::NotYet) => is_old,
            Self::Directory(Error::Timeout(_) | Error::Json(_)) => is_old,
            Self::Directory(Error::Api(problem)) if is_passing(problem) => is_old,
            _ => true,
        }
    }
}

/// Whether a problem is the directory's own, and may be over later.
fn is_passing(problem: &Problem) -> bool {
    matches!(kind(problem), "badNonce" | "rateLimited" | "serverInternal")
        || problem.status.is_some_and(|status| status >= 500)
}

/// Returns the kind of a problem, as RFC 8555 has them in section 6.7.
fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or_default()
}

/// Returns what the directory said, bounded.
fn said(problem: &Problem) -> String {
    bounded(problem.detail.clone().unwrap_or_else(|| "it says no more".to_owned()))
}

fn bounded(mut words: String) -> String {
    text::cut(&mut words, LONGEST);
    words
}

fn unproven(domain: &Domain, problem: &Problem) -> String {
    let remedy = match kind(problem) {
        "dns" => "enter the name in DNS, with this server's address (A or AAAA)",
        "caa" => "the name's CAA records forbid this directory; add it there, or take another",
        "connection" => {
            "from the Internet, port 443 of that name has to lead to --https of this server: look at firewall, router and DNS"
        }
        _ => {
            "port 443 of that name leads to something else than this server, or to a proxy that opens TLS: look at DNS (A and AAAA) \
             and at what listens there"
        }
    };
    format!("{domain} could not be proven: {remedy}. The directory says: {}", said(problem))
}

fn words(error: &Error) -> String {
    match error {
        Error::Api(problem) => refused(problem),
        Error::Json(_) => {
            "the directory answers something else than ACME; is --acme-directory right?".to_owned()
        }
        Error::Timeout(_) => Failure::Late.to_string(),
        Error::Other(inner) => match inner.downcast_ref::<ClientError>() {
            Some(ClientError::Tls(reason)) => format!(
                "the directory is not trusted, or does not speak TLS: {reason} (--acme-ca for the directory alone)"
            ),
            Some(error) => format!("the directory gives no answer of use: {}", bounded(error.to_string())),
            None => format!("the directory's answer will not do: {}", bounded(inner.to_string())),
        },
        other => format!("the directory's answer will not do: {}", bounded(other.to_string())),
    }
}

fn refused(problem: &Problem) -> String {
    let remedy = match kind(problem) {
        "rateLimited" => {
            "it allows no more for now; wait, and leave the data folder as it is, since it has what was got before"
        }
        "rejectedIdentifier" => {
            "it gives no certificate for such a name; has --acme a name of the public DNS?"
        }
        "externalAccountRequired" => {
            "it wants an account that was made elsewhere, which is not supported; take another directory"
        }
        "accountDoesNotExist" => {
            "it does not know the account any more; another one is made with the next attempt"
        }
        "invalidContact" | "unsupportedContact" => "it does not take the address of --acme-email",
        _ => "it refuses the order",
    };
    let parts: String = problem.subproblems.iter().take(3).map(|part| format!("; {part}")).collect();
    bounded(format!("{remedy}. The directory says: {}{parts}", said(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let json =
            serde_json::json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn failures_say_what_to_do_and_what_the_directory_said() {
        let domain: Domain = "ota.example.com".parse().unwrap();
        for (kind, part) in [
            ("dns", "in DNS"),
            ("connection", "port 443"),
            ("caa", "CAA"),
            ("unauthorized", "something else"),
        ] {
            let failure = Failure::Unproven { domain: domain.clone(), problem: problem(kind, "no answer") };
            let words = failure.to_string();
            assert!(words.contains("ota.example.com") && words.contains(part), "{words}");
            assert!(words.contains("no answer"), "{words}");
        }
        for (kind, part) in [
            ("rateLimited", "no more for now"),
            ("rejectedIdentifier", "--acme"),
            ("externalAccountRequired", "another directory"),
            ("serverInternal", "refuses"),
        ] {
            let words = Failure::from(Error::Api(problem(kind, "so it is"))).to_string();
            assert!(words.contains(part) && words.contains("so it is"), "{words}");
        }
    }

    #[test]
    fn an_order_is_given_up_where_it_is_refused_or_comes_to_no_end() {
        let api = |name: &str| Failure::from(Error::Api(problem(name, "")));
        let away = Failure::from(Error::from(ClientError::Late));
        for (failure, at_once, later) in [
            (api("malformed"), true, true),
            (api("unauthorized"), true, true),
            (Failure::OrderOver, true, true),
            (Failure::Broken, true, true),
            (Failure::from(TlsError::Setup("no key".to_owned())), true, true),
            (Failure::from(Unfit::OtherKey), true, true),
            (Failure::from(Unfit::NotYet), false, true),
            (Failure::Late, false, true),
            (api("serverInternal"), false, true),
            (api("rateLimited"), false, true),
            (away, false, false),
            (Failure::from(TlsError::TooLarge("account.json".into())), false, false),
        ] {
            assert_eq!((failure.ends_order(false), failure.ends_order(true)), (at_once, later), "{failure}");
        }
    }

    #[test]
    fn a_directory_writes_no_lines_of_its_own_and_no_long_ones() {
        let detail = format!("a\nINFO all is well{}", "x".repeat(100_000));
        let words = Failure::from(Error::Api(problem("malformed", &detail))).to_string();
        assert!(!words.contains('\n') && words.len() <= LONGEST, "{}", words.len());
    }
}
