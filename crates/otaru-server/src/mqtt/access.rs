//! Permissions on the embedded broker. Pure: from who somebody is and a topic to a yes or no.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use otaru_api::Role;
use otaru_broker::{ConnectRequest, Reason, Refusal};

/// Identity of a client of the broker: its connections, sessions and messages belong to it and to no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The server itself.
    Server,
    /// Somebody with an API token.
    Token {
        /// Id of the token.
        id: String,
        /// Role of the token.
        role: Role,
    },
    /// A device, by its name.
    Device(String),
    /// Somebody on this machine, while the server is tried out, by their client id.
    Local(String),
}

/// For logs.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Token { id, .. } => write!(f, "token {id}"),
            Self::Device(id) => write!(f, "device {id}"),
            Self::Local(client) => write!(f, "local {client}"),
        }
    }
}

/// Somebody who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Name.
    pub identity: Identity,
    /// Whether the registry knows it as a device, so that there are only so many.
    pub is_registered: bool,
    /// Fleet key that it came with: all who have one share what they may hold.
    pub fleet_key: Option<FleetKeyUse>,
}

/// A fleet key with which devices come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetKeyUse {
    /// Id of the key.
    pub id: String,
    /// Devices that came with it and are not retired.
    pub devices: u64,
}

impl From<Identity> for Visitor {
    fn from(identity: Identity) -> Self {
        Self { identity, is_registered: false, fleet_key: None }
    }
}

/// Whether somebody may publish on a topic.
pub fn may_publish(who: &Identity, base: &str, topic: &str) -> bool {
    match who {
        Identity::Server | Identity::Local(_) => true,
        Identity::Token { role, .. } => *role >= Role::Operator,
        Identity::Device(id) => {
            // The last is what the ready-made firmware's application says.
            own(base, id, topic).is_some_and(|leaf| matches!(leaf, "status" | "online" | "heartbeat"))
                || is_shared(base, topic, "progress")
        }
    }
}

/// Whether somebody whose credential ended may still publish a will on a topic: a device only that it is away.
pub fn may_publish_when_ended(who: &Identity, base: &str, topic: &str) -> bool {
    match who {
        Identity::Device(id) => own(base, id, topic) == Some("online"),
        Identity::Server | Identity::Local(_) | Identity::Token { .. } => false,
    }
}

/// Whether somebody may subscribe to a filter. A device may to what is for it alone or for all: any other filter, whatever its
/// wildcards, could match what is for others.
pub fn may_subscribe(who: &Identity, base: &str, filter: &str) -> bool {
    match who {
        Identity::Server | Identity::Local(_) | Identity::Token { .. } => true,
        Identity::Device(id) => {
            own(base, id, filter).is_some_and(|leaf| matches!(leaf, "update" | "status" | "online"))
                || is_shared(base, filter, "update")
        }
    }
}

/// Returns what comes after `{base}/{device}/`.
fn own<'t>(base: &str, device: &str, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(base)?.strip_prefix('/')?.strip_prefix(device)?.strip_prefix('/')
}

fn is_shared(base: &str, topic: &str, leaf: &str) -> bool {
    topic.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')) == Some(leaf)
}

/// An answer that is worked out.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides who somebody is.
pub trait Authenticator: Send + Sync {
    /// Returns who that is, or the reason for turning it away.
    fn identify(&self, request: ConnectRequest) -> Answer<'_, Result<Visitor, Refusal>>;

    /// The same for a certificate that a broker of somebody else's has checked.
    fn identify_vouched(&self, certificate: VouchedCertificate) -> Answer<'_, Result<Visitor, Refusal>> {
        drop(certificate);
        Box::pin(async { Err(Reason::BadUserNameOrPassword.into()) })
    }
}

/// Certificate of a client whose signatures and dates its broker has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VouchedCertificate {
    /// Client id.
    pub client: String,
    /// Common name of the subject.
    pub common_name: String,
    /// Serial number in hexadecimal, lower case and without leading zeros.
    pub serial: String,
    /// Address that the client comes from.
    pub peer: IpAddr,
}

/// Whether an address is of this machine or of a private network (RFC 1918, RFC 4193), or local to a link.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "ESP32/ota";

    #[test]
    fn a_device_speaks_for_itself_only() {
        let device = Identity::Device("lamp".into());
        for good in [
            "ESP32/ota/lamp/status",
            "ESP32/ota/lamp/online",
            "ESP32/ota/lamp/heartbeat",
            "ESP32/ota/progress",
        ] {
            assert!(may_publish(&device, BASE, good), "{good}");
        }
        for bad in [
            "ESP32/ota/lamp/update",
            "ESP32/ota/lamp2/status",
            "ESP32/ota/lam/status",
            "ESP32/ota/other/status",
            "ESP32/ota/update",
            "ESP32/ota/lamp/status/x",
            "ESP32/ota/lamp",
            "ESP32/otalamp/status",
            "$SYS/broker",
            "x",
            "",
        ] {
            assert!(!may_publish(&device, BASE, bad), "{bad}");
        }
    }

    #[test]
    fn whoever_is_ended_is_heard_no_more_but_for_a_device_that_is_away() {
        let device = Identity::Device("lamp".into());
        for (topic, may) in
            [("lamp/online", true), ("lamp/status", false), ("hall/online", false), ("progress", false)]
        {
            assert_eq!(may_publish_when_ended(&device, BASE, &format!("{BASE}/{topic}")), may, "{topic}");
        }
        let operator = Identity::Token { id: "01".into(), role: Role::Operator };
        assert!(!may_publish_when_ended(&operator, BASE, &format!("{BASE}/update")));
    }

    #[test]
    fn tokens_do_what_their_role_may() {
        let token = |role| Identity::Token { id: "01".into(), role };
        let topic = "ESP32/ota/update";
        assert!(!may_publish(&token(Role::Viewer), BASE, topic));
        assert!(may_publish(&token(Role::Operator), BASE, topic));
        assert!(may_subscribe(&token(Role::Viewer), BASE, "#"));
    }

    /// Whether a filter matches a topic: MQTT 5, section 4.7.
    fn matches(filter: &str, topic: &str) -> bool {
        let filter = filter
            .strip_prefix("$share/")
            .and_then(|rest| rest.split_once('/'))
            .map_or(filter, |(_, rest)| rest);
        if topic.starts_with('$') && filter.starts_with(['#', '+']) {
            return false;
        }
        let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
        loop {
            match (filter.next(), topic.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(want), Some(level)) if want == level => {}
                _ => return false,
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_filter_of_a_device_matches_what_is_anothers(
            levels in proptest::collection::vec("[+#]|ESP32|ota|lamp|other|update|status|online|\\$share|g|", 0..7),
        ) {
            let filter = levels.join("/");
            if may_subscribe(&Identity::Device("lamp".into()), BASE, &filter) {
                for leaf in ["update", "status", "online"] {
                    let foreign = format!("ESP32/ota/other/{leaf}");
                    proptest::prop_assert!(!matches(&filter, &foreign), "{filter} matches {foreign}");
                }
            }
        }
    }

    #[test]
    fn what_a_device_needs_is_granted() {
        let device = Identity::Device("lamp".into());
        for good in ["ESP32/ota/lamp/update", "ESP32/ota/update"] {
            assert!(may_subscribe(&device, BASE, good));
        }
        for bad in [
            "#",
            "ESP32/ota/+/update",
            "ESP32/ota/lamp/#",
            "$share/g/ESP32/ota/lamp/update",
            "ESP32/ota/lamp/+",
        ] {
            assert!(!may_subscribe(&device, BASE, bad), "{bad}");
        }
    }

    #[test]
    fn private_addresses() {
        for (text, private) in [
            ("127.0.0.1", true),
            ("192.168.1.9", true),
            ("::ffff:10.1.1.1", true),
            ("fd00::1", true),
            ("8.8.8.8", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(text.parse().unwrap()), private, "{text}");
        }
    }
}
