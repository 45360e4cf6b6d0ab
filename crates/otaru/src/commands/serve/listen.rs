//! Addresses of listeners that may be switched off.

use std::net::SocketAddr;
use std::str::FromStr;

/// Address of a listener, unless it is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address =
            text.parse().map_err(|_| "an address is ADDR:PORT, such as 0.0.0.0:8080 or [::]:8080; or `off`");
        Ok(Self(Some(address?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen(None)));
        assert_eq!("[::]:80".parse(), Ok(Listen("[::]:80".parse().ok())));
        for bad in ["", "OFF", "8080", "localhost:80"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
