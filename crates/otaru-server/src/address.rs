//! Addresses: where others reach this server, and its files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use otaru_format::digest::Digest;

/// Returns the beginning of all URLs, without a slash at the end: what the operator said, or the address of this machine.
pub fn public_base(said: Option<&str>, http: SocketAddr) -> String {
    match said {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", SocketAddr::new(reachable_ip(http.ip()), http.port())),
    }
}

/// The path in what URLs begin with, such as `/ota`; empty where the site has a host to itself.
pub fn path(base: &str) -> &str {
    let host = base.split_once("://").map_or(base, |(_, host)| host);
    host.find('/').map_or("", |at| host[at..].trim_end_matches('/'))
}

/// Returns the beginning of URLs for devices: those speak plain HTTP, so where people come over TLS, devices come to the same host's port 80.
pub fn for_devices(base: &str) -> String {
    let Some(rest) = base.strip_prefix("https://") else { return base.to_owned() };
    let (host, path) = rest.split_at(rest.len() - path(base).len());
    // An address of IPv6 has colons of its own.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    format!("http://{host}{path}")
}

/// Whether a path begins as the site's own pages do: below it, nobody could tell one from the other.
pub fn is_own(path: &str) -> bool {
    let own = [
        "api", "assets", "audit", "devices", "files", "healthz", "keys", "live", "login", "logout", "readyz",
        "releases", "rollouts",
    ];
    path.trim_start_matches('/').split('/').next().is_some_and(|first| own.contains(&first))
}

/// The address at which a listener on `ip` is reached from other machines; from this one if there is no network.
pub fn reachable_ip(ip: IpAddr) -> IpAddr {
    if !ip.is_unspecified() {
        return ip;
    }
    let (any, elsewhere): (SocketAddr, SocketAddr) = match ip {
        // Of the networks for documentation (RFC 5737, RFC 3849): only the route towards them matters.
        IpAddr::V4(_) => ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into()),
        IpAddr::V6(_) => {
            let there = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1);
            ((Ipv6Addr::UNSPECIFIED, 0).into(), (there, 9).into())
        }
    };
    // Connecting a UDP socket sends nothing; it only asks for the route.
    let route = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(elsewhere)?;
        socket.local_addr()
    });
    match (route, ip) {
        (Ok(address), _) if !address.ip().is_unspecified() => address.ip(),
        (_, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        (_, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Whom an address counts as: in IPv6 whoever has one has its whole network, of 64 bits.
pub fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Returns the path at which a file is downloaded, below the server's URL.
pub fn download_path(digest: Digest, name: &str) -> String {
    format!("/files/{digest}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_over_plain_http() {
        for (said, wanted) in [
            ("https://ota.example/ota", "http://ota.example/ota"),
            ("https://ota.example:8443/a/b", "http://ota.example/a/b"),
            ("https://[2001:db8::1]:8443", "http://[2001:db8::1]"),
            ("https://[2001:db8::1]/x", "http://[2001:db8::1]/x"),
            ("http://ota.example:8080/ota", "http://ota.example:8080/ota"),
        ] {
            assert_eq!(for_devices(said), wanted);
        }
        assert_eq!(path("https://ota.example/a/b/"), "/a/b");
        assert_eq!((path("http://ota.example"), path("http://ota.example/")), ("", ""));
        assert!(
            is_own("/devices") && is_own("/api/x") && !is_own("/ota") && !is_own("/devices2") && !is_own("")
        );
    }

    #[test]
    fn urls_begin_as_said_or_as_listened() {
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(public_base(Some("https://ota.example/"), at("0.0.0.0:8080")), "https://ota.example");
        assert_eq!(public_base(None, at("10.1.2.3:8080")), "http://10.1.2.3:8080");
        assert_eq!(public_base(None, at("[::1]:8080")), "http://[::1]:8080");
        assert!(!public_base(None, at("0.0.0.0:8080")).contains("0.0.0.0"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let of = |text: &str| origin(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
