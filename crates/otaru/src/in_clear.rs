//! Warnings where a secret goes to another machine in clear.

use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};

use otaru_broker::client::BrokerUrl;

/// A warning about a token for the API at `server`, if it leaves this machine in clear.
pub(crate) fn token(server: &str) -> Option<String> {
    let rest = server.strip_prefix("http://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let named = if authority.parse::<SocketAddr>().is_ok() || has_port(authority) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    if is_here(&named) {
        return None;
    }
    Some(format!(
        "the token goes to {server} in clear, and whoever is on the way can read and use it; \
         let a proxy speak TLS and use https://, or a tunnel: ssh -L 8080:127.0.0.1:8080 HOST, then http://127.0.0.1:8080"
    ))
}

/// A warning about the password for a broker, if it leaves this machine in clear.
pub(crate) fn broker_password(broker: &BrokerUrl) -> Option<String> {
    if broker.tls || broker.password.is_none() || is_here(&broker.authority()) {
        return None;
    }
    Some(format!(
        "the password goes to {broker} in clear, and whoever is on the way can read and use it; \
         where the broker speaks TLS use mqtts://, or a tunnel: ssh -L 1883:127.0.0.1:{} HOST, then mqtt://127.0.0.1",
        broker.port
    ))
}

/// A warning about the password for a broker's management at this URL, if it leaves this machine in clear.
pub(crate) fn management_password(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let named = if has_port(authority) { authority.to_owned() } else { format!("{authority}:80") };
    (!is_here(&named)).then(|| {
        format!(
            "the password for {url} goes there in clear, and whoever is on the way can read and use it; use https:// where \
             RabbitMQ's management speaks TLS"
        )
    })
}

/// Whether `host:port` is this machine. A name that is not known is not.
fn is_here(authority: &str) -> bool {
    let addresses: Vec<_> = authority.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    // Only an address of this machine can be bound.
    let here =
        |address: &SocketAddr| address.ip().is_loopback() || UdpSocket::bind((address.ip(), 0)).is_ok();
    !addresses.is_empty() && addresses.iter().all(here)
}

fn has_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_clear_is_warned_of_unless_it_stays_here() {
        for far in [
            "http://192.0.2.1:8080",
            "http://192.0.2.1",
            "http://[2001:db8::1]:8080/ota",
            "http://nowhere.invalid",
        ] {
            let warning = token(far).unwrap_or_else(|| panic!("{far}"));
            assert!(warning.contains("https://") && warning.contains("ssh -L"), "{warning}");
        }
        for near in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]", "https://192.0.2.1"] {
            assert_eq!(token(near), None, "{near}");
        }
    }

    #[test]
    fn so_is_a_password_for_a_brokers_management() {
        for (url, warned) in [
            ("http://192.0.2.1:15672", true),
            ("http://192.0.2.1/mgmt", true),
            ("http://127.0.0.1:15672", false),
            ("https://192.0.2.1:15672", false),
        ] {
            assert_eq!(management_password(url).is_some(), warned, "{url}");
        }
    }

    #[test]
    fn so_is_a_password_for_a_broker() {
        let warned = |url: &str| broker_password(&url.parse().unwrap());
        for far in [
            "mqtt://me:s3cret@192.0.2.1",
            "mqtt://me:s3cret@[2001:db8::1]:1884",
            "mqtt://me:s3cret@nowhere.invalid",
        ] {
            let warning = warned(far).unwrap_or_else(|| panic!("{far}"));
            assert!(warning.contains("ssh -L") && !warning.contains("s3cret"), "{warning}");
        }
        for near in [
            "mqtt://me:s3cret@127.0.0.1",
            "mqtt://me:s3cret@localhost:1884",
            "mqtt://192.0.2.1",
            "mqtt://me@192.0.2.1",
            "mqtts://me:s3cret@192.0.2.1",
        ] {
            assert_eq!(warned(near), None, "{near}");
        }
    }
}
