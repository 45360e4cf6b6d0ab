//! Keeps the device on the network: looks at the link each second, and joins at once when it is down.
//!
//! The link's pauses are its own and short, because the way to an access point costs nobody else anything; the broker's longer
//! ones are for the broker. Whoever needs the network looks at [`Uplink`].

use core::convert::Infallible;
use core::time::Duration;

use rand_core::RngCore;

use crate::backoff::{Backoff, Pauses};
use crate::board::{Clock, Link};
use crate::text;
use crate::timeout::within;
use crate::uplink::{CHECK, Uplink};

/// Longest time for one attempt to join (a scan, then association, handshake and DHCP with each known network), and a
/// restart of the radio.
const ATTEMPT: Duration = Duration::from_secs(60);
/// Pauses between attempts: a network that is there again is joined within the longest.
const PAUSES: Pauses =
    Pauses::new(Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(2) });
/// Time without a network after which the radio is taken for what is wrong.
const STUCK: Duration = Duration::from_secs(15 * 60);

/// Runs for ever.
pub(crate) async fn keep<C: Clock, L: Link, R: RngCore>(
    link: &mut L,
    clock: &C,
    rng: &mut R,
    uplink: &Uplink,
) -> Infallible {
    let mut pauses = PAUSES;
    let mut next = clock.now();
    // When the device was joined last, or its radio restarted.
    let mut fresh = next;
    let mut told = false;
    loop {
        let up = link.is_up();
        uplink.set(up, if up { link.rssi() } else { None });
        if uplink.has_reached() && !told {
            told = true;
            link.reached_broker();
        }
        let now = clock.now();
        if up {
            pauses.reset();
            (next, fresh) = (now, now);
        } else if now.saturating_sub(fresh) >= STUCK {
            text::warn(format_args!("network: not joined for 15 minutes, restarting the radio"));
            let _ = within(clock, ATTEMPT, link.restart()).await;
            fresh = clock.now();
        } else if now >= next {
            text::info(format_args!("network: joining"));
            let _ = within(clock, ATTEMPT, link.reconnect()).await;
            // However that went, the next look tells; and whatever it tells, attempts have a pause between them.
            next = clock.now() + pauses.pause(rng);
            continue;
        }
        let left = next.saturating_sub(now);
        clock.sleep(if left.is_zero() { CHECK } else { left.min(CHECK) }).await;
    }
}
