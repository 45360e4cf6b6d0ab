//! Addresses: where others reach this server, and its files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use otaru_format::digest::Digest;

/// Listeners of a site: those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
}

/// Returns the beginning of URLs for people, without a slash at the end: what the operator said, or the address of this machine, over TLS
/// where that is spoken.
pub fn public_base(said: Option<&str>, listening: Listening) -> String {
    let here = |scheme: &str, at: SocketAddr| {
        format!("{scheme}://{}", SocketAddr::new(reachable_ip(at.ip()), at.port()))
    };
    match (said, listening) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Listening { https: Some(at), .. }) => here("https", at),
        (None, Listening { http: Some(at), .. }) => here("http", at),
        (None, Listening { http: None, https: None }) => String::new(),
    }
}

/// Beginnings of URLs for devices. A device is sent the way that it came: one that speaks no TLS could not follow another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceBases {
    /// For those that came without TLS.
    pub plain: String,
    /// For those that came over TLS.
    pub over_tls: String,
}

impl DeviceBases {
    /// Returns those that go with what URLs for people begin with.
    pub fn new(public_base: &str, listening: Listening) -> Self {
        let over_tls = public_base.to_owned();
        let plain = match (listening.https, listening.http) {
            // TLS ends in front of this server, if anywhere.
            (None, _) => for_devices(public_base),
            (Some(_), None) => over_tls.clone(),
            (Some(_), Some(http)) => match (public_base.strip_prefix("https://"), http.port()) {
                (None, _) => over_tls.clone(),
                (Some(_), port) => with_port(&for_devices(public_base), port),
            },
        };
        Self { plain, over_tls }
    }

    /// Returns that for a device.
    pub fn of(&self, came_over_tls: bool) -> &str {
        if came_over_tls { &self.over_tls } else { &self.plain }
    }
}

/// Puts a port behind the host of a URL that has none.
fn with_port(base: &str, port: u16) -> String {
    let (host, path) = base.split_at(base.len() - path(base).len());
    format!("{host}:{port}{path}")
}

/// The path in what URLs begin with, such as `/ota`; empty where the site has a host to itself.
pub fn path(base: &str) -> &str {
    let host = base.split_once("://").map_or(base, |(_, host)| host);
    host.find('/').map_or("", |at| host[at..].trim_end_matches('/'))
}

/// Returns the host in what URLs begin with; an address of IPv6 in brackets.
pub fn host(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    // An address of IPv6 has colons of its own.
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns the beginning of URLs in plain HTTP: where people come over TLS, devices that speak none come to the same host's port 80.
fn for_devices(base: &str) -> String {
    let Some(rest) = base.strip_prefix("https://") else { return base.to_owned() };
    let (host, path) = (host(rest), path(base));
    format!("http://{host}{path}")
}

/// Whether a path begins as the site's own pages do: below it, nobody could tell one from the other.
pub fn is_own(path: &str) -> bool {
    let own = [
        "api", "assets", "audit", "ca.pem", "devices", "files", "healthz", "keys", "live", "login", "logout",
        "readyz", "releases", "rollouts",
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
        let at = |text: &str| Listening { http: text.parse().ok(), https: None };
        assert_eq!(public_base(Some("https://ota.example/"), at("0.0.0.0:8080")), "https://ota.example");
        assert_eq!(public_base(None, at("10.1.2.3:8080")), "http://10.1.2.3:8080");
        assert_eq!(public_base(None, at("[::1]:8080")), "http://[::1]:8080");
        assert!(!public_base(None, at("0.0.0.0:8080")).contains("0.0.0.0"));
        let both = Listening { https: "10.1.2.3:8443".parse().ok(), ..at("10.1.2.3:8080") };
        assert_eq!(public_base(None, both), "https://10.1.2.3:8443");
        assert_eq!(public_base(None, Listening { http: None, ..both }), "https://10.1.2.3:8443");
    }

    #[test]
    fn devices_are_sent_the_way_that_they_came() {
        let (http, https) = ("10.1.2.3:8080".parse().ok(), "10.1.2.3:8443".parse().ok());
        let bases = |base: &str, http, https| {
            let DeviceBases { plain, over_tls } = DeviceBases::new(base, Listening { http, https });
            (plain, over_tls)
        };
        let pair = |plain: &str, over_tls: &str| (plain.to_owned(), over_tls.to_owned());
        let (named, port, plain) = ("https://ota.example/x", "https://10.1.2.3:8443", "http://10.1.2.3:8080");
        assert_eq!(bases(port, http, https), pair(plain, port));
        assert_eq!(bases(named, http, https), pair("http://ota.example:8080/x", named));
        assert_eq!(bases(named, None, https), pair(named, named), "nothing else is spoken");
        assert_eq!(bases(named, http, None), pair("http://ota.example/x", named), "behind a proxy");
        assert_eq!(bases(plain, http, https), pair(plain, plain), "as the operator says");
        assert_eq!(bases("https://[::1]:8443/a", http, https).0, "http://[::1]:8080/a");
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
