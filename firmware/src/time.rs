//! The time, asked of a server: dates in certificates are held against it.

use embassy_net::Stack;
use embassy_net::dns::DnsQueryType;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_time::{Duration, Timer, with_timeout};
use esp_hal::ram;
use esp_hal::rng::Rng;
use otaru_mbedtls::WallClock;
use otaru_setup::sntp::{self, BadAnswer};
use portable_atomic::{AtomicU32, Ordering};

/// Most time for a name and an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause until the time is asked for again.
const KEEPING: Duration = Duration::from_secs(12 * 3600);
/// Pauses after no answer, of which each is twice the one before (RFC 4330, 10: never below 15 seconds).
const PAUSES: [u64; 2] = [15, 900];

/// Seconds since 1970 when the time was last known, over a restart; any number after a loss of power.
#[ram(unstable(rtc_fast, persistent))]
static LAST: AtomicU32 = AtomicU32::new(0);
/// The same with this over it, where it is no such number.
#[ram(unstable(rtc_fast, persistent))]
static CHECK: AtomicU32 = AtomicU32::new(0);
const MASK: u32 = u32::from_le_bytes(*b"TIME");

/// Lets a clock know of the time before the restart.
pub(crate) fn remember(clock: &WallClock) {
    let last = LAST.load(Ordering::Relaxed);
    if CHECK.load(Ordering::Relaxed) == last ^ MASK {
        clock.was_past(last.into());
    }
}

fn keep(now: u64) {
    // Until 2106; nothing is kept afterwards.
    let Ok(now) = u32::try_from(now) else { return };
    LAST.store(now, Ordering::Relaxed);
    CHECK.store(now ^ MASK, Ordering::Relaxed);
}

/// Asks, for ever.
#[embassy_executor::task]
pub(crate) async fn run(stack: Stack<'static>, server: &'static str, clock: &'static WallClock) {
    let [least, most] = PAUSES;
    let mut pause = least;
    loop {
        stack.wait_config_up().await;
        let now = with_timeout(PATIENCE, ask(stack, server, clock.now())).await.ok().flatten();
        if now.is_some_and(|now| clock.set(now)) {
            log::info!("time: {} seconds since 1970, by {server}", clock.now());
            keep(clock.now());
            pause = least;
            Timer::after(KEEPING).await;
            continue;
        }
        match now {
            Some(_) => log::warn!("time: {server} is behind this firmware's build"),
            None => log::warn!("time: no answer of {server}"),
        }
        Timer::after(Duration::from_secs(pause)).await;
        pause = (2 * pause).min(most);
    }
}

async fn ask(stack: Stack<'_>, server: &str, past: u64) -> Option<u64> {
    let address = *stack.dns_query(server, DnsQueryType::A).await.ok()?.first()?;
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 1]);
    let (mut rx, mut tx) = ([0; 2 * sntp::LEN], [0; sntp::LEN]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    socket.bind(0).ok()?;
    let rng = Rng::new();
    let nonce = u64::from(rng.random()) << 32 | u64::from(rng.random());
    socket.send_to(&sntp::question(nonce), (address, sntp::PORT)).await.ok()?;
    loop {
        let mut answer = [0; 2 * sntp::LEN];
        let Ok((len, from)) = socket.recv_from(&mut answer).await else { continue };
        if from.endpoint.addr != address {
            continue;
        }
        match sntp::answer(answer.get(..len)?, nonce, past) {
            Ok(now) => return Some(now),
            Err(BadAnswer::Unknown) => return None,
            // Of somebody else, or late; ours may still come.
            Err(BadAnswer::NoAnswer | BadAnswer::NotOurs) => {}
        }
    }
}
