//! Settings of a bucket: where it is, the credentials, and how long it is waited for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use otaru_broker::client::Secret;
use otaru_tls::Trust;

/// Default bytes of the copies near at hand.
pub const DEFAULT_COPIES: u64 = 4 << 30;

/// A bucket, and the beginning of all names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket's name.
    pub bucket: String,
    /// Beginning of names, without a slash at its ends; empty for none.
    pub prefix: String,
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(f, "s3://{}", self.bucket),
            prefix => write!(f, "s3://{}/{prefix}", self.bucket),
        }
    }
}

impl FromStr for S3Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("s3://").ok_or("it is s3://BUCKET[/PREFIX]")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').filter(|prefix| !prefix.is_empty()).unwrap_or(prefix);
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = bucket.as_bytes();
        let is_bucket = (3..=63).contains(&bytes.len()) && bytes.iter().all(|byte| good(*byte));
        if !is_bucket || !edge(bytes.first()) || !edge(bytes.last()) || bucket.contains("..") {
            return Err("a bucket has 3 to 63 small letters, digits, dots and dashes: s3://BUCKET[/PREFIX]");
        }
        let plain = |part: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(good)
        };
        if prefix.len() > 200 || !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(
                "a prefix has letters, digits, dots, dashes and underscores, and single slashes between",
            );
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Credentials of a bucket. What is secret in them is never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Id of the access key.
    pub key_id: String,
    /// Secret access key.
    pub secret: Secret,
    /// Token of a session, for credentials that end.
    pub token: Option<Secret>,
}

/// Settings of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub place: S3Place,
    /// URL of the service; otherwise that of Amazon in the region.
    pub endpoint: Option<String>,
    /// The region, which requests are signed for.
    pub region: String,
    /// Whether the bucket's name stands in paths rather than in the host's name.
    pub path_style: bool,
    /// The credentials.
    pub credentials: Credentials,
    /// Whom to trust over TLS.
    pub trust: Trust,
    /// Bytes of the copies near at hand.
    pub copies: u64,
    /// Whether whoever downloads is sent to the bucket by a signed link.
    pub redirect: bool,
    /// Limits on waiting for the bucket.
    pub patience: Patience,
}

impl S3Config {
    /// Returns the URL that names of files are put behind, as the bucket is addressed.
    pub(super) fn endpoint(&self) -> Option<String> {
        let endpoint = self.endpoint.as_deref()?.trim_end_matches('/');
        match endpoint.split_once("://") {
            Some((scheme, rest)) if !self.path_style => {
                Some(format!("{scheme}://{}.{rest}", self.place.bucket))
            }
            _ => Some(endpoint.to_owned()),
        }
    }

    /// Whether requests go in clear.
    pub(super) fn is_plain(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

/// Limits on waiting for a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest time without a byte, either way.
    pub stall: Duration,
    /// Number of further attempts of a request.
    pub retries: usize,
    /// Time after which no further attempt begins.
    pub retry_for: Duration,
    /// Longest time that somebody who wants a file waits for it to be fetched. The fetch goes on.
    pub wait: Duration,
    /// Longest time of a whole fetch.
    pub fetch: Duration,
    /// Time for which a failed fetch is not begun again.
    pub remembered: Duration,
    /// Longest time of a look whether the bucket is there.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(15),
            retries: 4,
            retry_for: Duration::from_secs(20),
            // Less than the time in which a device gives up on the first byte.
            wait: Duration::from_secs(8),
            fetch: Duration::from_secs(10 * 60),
            remembered: Duration::from_secs(5),
            look: Duration::from_secs(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_a_plain_prefix() {
        for (text, bucket, prefix, shown) in [
            ("s3://firmware", "firmware", "", "s3://firmware"),
            ("s3://firmware/", "firmware", "", "s3://firmware"),
            ("s3://my.firmware/otaru/eu-1/", "my.firmware", "otaru/eu-1", "s3://my.firmware/otaru/eu-1"),
        ] {
            let place: S3Place = text.parse().unwrap();
            assert_eq!((place.bucket.as_str(), place.prefix.as_str()), (bucket, prefix), "{text}");
            assert_eq!(place.to_string(), shown);
        }
        for bad in [
            "firmware",
            "s3://",
            "s3://ab",
            "s3://Firmware",
            "s3://-firmware",
            "s3://firm..ware",
            "s3://firmware/a//b",
            "s3://firmware//",
            "s3://firmware/../x",
            "s3://firmware/a b",
            "s3://firmware/a?b",
            "s3://key:secret@firmware",
            "gs://firmware",
        ] {
            assert!(bad.parse::<S3Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_secret_is_never_printed() {
        let credentials = Credentials {
            key_id: "AKIA".into(),
            secret: Secret::new("s3cr3t"),
            token: Some(Secret::new("t0k3n")),
        };
        let printed = format!("{credentials:?}");
        assert!(printed.contains("AKIA") && !printed.contains("s3cr3t") && !printed.contains("t0k3n"));
    }
}
