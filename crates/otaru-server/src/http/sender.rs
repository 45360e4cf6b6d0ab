//! Sender of a request.

use std::net::IpAddr;

use axum::http::HeaderMap;

/// The address of a request's sender: that of the connection, or what a trusted proxy says.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Returns the sender of a request: the connection's other end or, when that is a proxy that is trusted, whom it names. Of several it is the
/// last that no trusted proxy is; what stands before it anybody may have written.
pub(super) fn sender(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    if !trusted.contains(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
    let named = named.iter().rev().map_while(|text| text.trim().parse::<IpAddr>().ok());
    named.map(|ip| ip.to_canonical()).find(|ip| !trusted.contains(ip)).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_name_others() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap().to_canonical();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
        headers.append("x-forwarded-for", HeaderValue::from_static("3.3.3.3, 10.0.0.2"));
        let trusted = [ip("10.0.0.1"), ip("10.0.0.2")];
        let from = |peer: &str| sender(ip(peer), &headers, &trusted);
        assert_eq!(from("9.9.9.9"), ip("9.9.9.9"), "anybody could write that");
        assert_eq!(from("10.0.0.1"), ip("3.3.3.3"));
        assert_eq!(from("::ffff:10.0.0.1"), ip("3.3.3.3"), "the same address in IPv6");
        headers.append("x-forwarded-for", HeaderValue::from_static("nonsense"));
        assert_eq!(sender(ip("10.0.0.1"), &headers, &trusted), ip("10.0.0.1"));
    }
}
