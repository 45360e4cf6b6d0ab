//! Facts of a certificate that people and logins need: names, serial number, first and last moment.

use std::net::IpAddr;

use otaru_rollout::Time;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no certificate of X.509")]
pub struct FactsError;

/// Facts of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Common name of the subject, if it has exactly one.
    pub common_name: Option<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Serial number, in hexadecimal without leading zeros.
    pub serial: String,
    /// First moment.
    pub begins: Time,
    /// Last moment.
    pub ends: Time,
}

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// When the bytes are no certificate.
    pub fn read(der: &[u8]) -> Result<Self, FactsError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| FactsError)?;
        let mut names = certificate.subject().iter_common_name().map(|name| name.as_str().ok());
        let common_name = match (names.next(), names.next()) {
            (Some(name), None) => name.map(str::to_owned),
            _ => None,
        };
        let alternative = certificate.subject_alternative_name().map_err(|_| FactsError)?;
        let alternative = alternative.map(|found| &found.value.general_names[..]).unwrap_or_default();
        let dns_names = alternative.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let addresses = alternative.iter().filter_map(|name| match name {
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        let serial = hex::encode(certificate.raw_serial());
        let validity = certificate.validity();
        Ok(Self {
            common_name,
            dns_names: dns_names.collect(),
            addresses: addresses.collect(),
            serial: serial.trim_start_matches('0').to_owned(),
            begins: moment(validity.not_before.timestamp()),
            ends: moment(validity.not_after.timestamp()),
        })
    }

    /// Returns its first moment as people read it.
    pub fn begins_in_words(&self) -> String {
        in_words(self.begins)
    }

    /// Returns its last moment as people read it.
    pub fn ends_in_words(&self) -> String {
        in_words(self.ends)
    }

    /// Whether it is past its last moment.
    pub fn has_ended(&self, now: Time) -> bool {
        now > self.ends
    }

    /// Whether its first moment has come, and its last has not passed.
    pub fn is_valid(&self, now: Time) -> bool {
        self.begins <= now && !self.has_ended(now)
    }

    /// Whether clients take it for a host: a name, or an address, one of IPv6 in brackets.
    pub fn is_for(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let is_own = |own: &String| {
            let rest = own.strip_prefix("*.").zip(host.split_once('.'));
            own.eq_ignore_ascii_case(host)
                || rest.is_some_and(|(own, (_, rest))| own.eq_ignore_ascii_case(rest))
        };
        self.dns_names.iter().any(is_own)
    }

    /// Whether a name is one of its own: its common name, or one of its DNS names.
    pub fn names(&self, name: &str) -> bool {
        self.common_name.as_deref() == Some(name) || self.dns_names.iter().any(|own| own == name)
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn in_words(moment: Time) -> String {
    let moment = i64::try_from(moment.0).ok().and_then(otaru_api::Timestamp::from_millis);
    moment.map_or_else(|| "in a far future".to_owned(), |moment| moment.to_string())
}

/// From seconds since 1970; what is before that is that.
fn moment(seconds: i64) -> Time {
    Time(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}
