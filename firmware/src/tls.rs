//! TLS of this firmware: it trusts CAs that are built in, and those that were set on the set-up page.

use core::time::Duration;

use embassy_time::Instant;
use otaru_esp_hal::RadioRng;
use otaru_mbedtls::{Identity, MOST_CAS, MbedTls, Trust, TrustError, WallClock};
use otaru_setup::trust_store::TrustStore;
use static_cell::StaticCell;

use crate::budget;
use crate::chip::BUDGET;

/// Settings that `build.rs` read of `[tls]`: CAs, the device's certificate and its key, and the server that is asked for the time.
type BuiltIn = (&'static [&'static [u8]], Option<(&'static [u8], &'static [u8])>, Option<&'static str>);
const BUILT_IN: BuiltIn = include!(concat!(env!("OUT_DIR"), "/tls.rs"));

/// Seconds since 1970 when this firmware was built.
const BUILT: u64 = include!(concat!(env!("OUT_DIR"), "/built.rs"));

/// Bytes of heap that have to be free for a session: what its handshake takes at the most, and 8 KiB for everybody else. Measured on a PC
/// (`otaru-mbedtls/tests/peers/good.rs`), where pointers are twice as long.
const NEEDS: usize = if cfg!(feature = "tls-prebuilt") {
    68 * 1024
} else if cfg!(feature = "tls-any-server") {
    44 * 1024
} else {
    24 * 1024
};

/// Bytes of variables that come with TLS.
pub(crate) const VARIABLES: u32 =
    if cfg!(feature = "tls-prebuilt") { budget::PREBUILT_TLS } else { budget::TLS };

const _: () = assert!(
    BUDGET.left_for_tls(VARIABLES) as usize >= NEEDS,
    "this chip has no memory for TLS beside its radio: build its firmware without, and have its updates signed"
);

/// The time.
pub(crate) static CLOCK: WallClock = WallClock::new(BUILT, uptime);

fn uptime() -> Duration {
    Duration::from_millis(Instant::now().as_millis())
}

/// Whether there is anybody to trust without CAs that were set.
pub(crate) const fn is_built_in() -> bool {
    !BUILT_IN.0.is_empty()
}

/// Server that is asked for the time.
pub(crate) const fn time_server() -> Option<&'static str> {
    BUILT_IN.2
}

/// TLS of the agent, which trusts nobody if what is built in cannot be used and nothing was set. Called once, with the radio on.
pub(crate) fn start(set: Option<&TrustStore<'_>>) -> &'static MbedTls {
    static TLS: StaticCell<MbedTls> = StaticCell::new();
    static RANDOM: StaticCell<RadioRng> = StaticCell::new();
    if !otaru_mbedtls::CHECKS_DATES {
        log::warn!("tls: dates in certificates are not checked: this firmware has a prebuilt Mbed TLS");
    }
    match MbedTls::new(trust(set), &CLOCK, RANDOM.init(RadioRng::new())) {
        Ok(tls) => TLS.init(tls.with_reserve(NEEDS, || esp_alloc::HEAP.free())),
        Err(error) => panic!("{error}"),
    }
}

/// CAs that were set come first, so that reports name them. Of what was set, what this firmware cannot use is left out: it may be new, and
/// know less than the one before.
fn trust(set: Option<&TrustStore<'_>>) -> Option<Trust> {
    let (built_in, identity, _) = BUILT_IN;
    let mut cas: heapless::Vec<&[u8], MOST_CAS> = heapless::Vec::new();
    for ca in set.iter().flat_map(|set| set.cas()).filter(|ca| !built_in.contains(ca)) {
        if usable(otaru_mbedtls::check(&[ca], None)) {
            let _ = cas.push(ca);
        }
    }
    let _ = cas.extend_from_slice(built_in);
    let pair = |(certificate, key)| Identity { certificate, key };
    let own = set.and_then(TrustStore::identity).map(pair);
    let own = own.filter(|own| usable(otaru_mbedtls::check(&[], Some(*own))));
    if cas.is_empty() {
        return None;
    }
    match Trust::new(&cas, own.or(identity.map(pair))) {
        Ok(trust) => Some(trust),
        Err(error) => {
            log::error!("tls: {error}");
            None
        }
    }
}

/// Whether something that was set can be used; says so if not.
fn usable(checked: Result<(), TrustError>) -> bool {
    if let Err(error) = checked {
        log::error!("tls: of what was set: {error}");
    }
    checked.is_ok()
}
