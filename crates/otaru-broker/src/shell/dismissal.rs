//! Answers for those who are sent away without a decision: a client that has said CONNECT is told so in its version, since it would take
//! a socket that is closed without a byte for a broker that speaks another one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::proxy::take_header;
use super::wire::Wire;
use crate::codec::writer::Manner;
use crate::reason::Reason;
use crate::version::Version;

/// Time that one who is not taken in has to say CONNECT.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are kept of what it says; name and level of the protocol end after twelve.
const BEGINNING: usize = 64;
/// Sockets that wait for that, beside those who are taken in.
pub(super) const DISMISSALS: usize = 64;
/// Sockets of those who were taken in, are gone, and have not taken their last packet.
pub(super) const FAREWELLS: usize = 64;

/// Protocol name and level as they stand in a CONNECT, after a fixed header of two to five bytes. Returns the level.
pub(super) fn level(incoming: &[u8]) -> Option<u8> {
    let mut names = incoming.windows(7).take(6);
    names.find(|bytes| bytes.starts_with(b"\0\x04MQTT")).and_then(<[u8]>::last).copied()
}

/// Returns the CONNACK that sends away whoever has said so much; nothing if that is no CONNECT of a version that is spoken here.
fn refusal(incoming: &[u8], reason: Reason) -> Option<Vec<u8>> {
    let is_connect = incoming.first().is_some_and(|first| first >> 4 == 1);
    let version = match level(incoming).filter(|_| is_connect)? {
        4 => Version::V311,
        5 => Version::V5,
        _ => return None,
    };
    let (mut answer, manner) = (Vec::new(), Manner { version, largest: usize::MAX, reasons: true });
    manner.refuse(&mut answer, reason, None);
    Some(answer)
}

/// Tells one who was at the door why it has to go, as far as its socket takes it at once.
pub(super) async fn dismiss<S: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<S>, reason: Reason) {
    poll_fn(|context| {
        let limit = wire.incoming.len().max(BEGINNING);
        let _ = wire.poll_read(context, limit);
        Poll::Ready(())
    })
    .await;
    let answer = refusal(&wire.incoming, reason);
    wire.close_at_once(answer.as_deref().unwrap_or_default()).await;
}

/// Writes the last packet of one who counts no longer, and waits a little until it is taken; if many are waited for already, only as far as
/// the peer takes it at once.
pub(super) async fn see_off<S: AsyncRead + AsyncWrite + Unpin>(
    farewells: &Semaphore,
    wire: Wire<S>,
    last: &[u8],
) {
    match farewells.try_acquire() {
        Ok(_permit) => wire.close(last).await,
        Err(_) => wire.close_at_once(last).await,
    }
}

/// One who is not taken in, and may still hear why.
#[derive(Debug)]
pub(super) struct Dismissal {
    reason: Reason,
    _permit: OwnedSemaphorePermit,
}

impl Dismissal {
    /// Returns none if too many are there already.
    pub(super) fn begin(permits: &Arc<Semaphore>, reason: Reason) -> Option<Self> {
        let permit = Arc::clone(permits).try_acquire_owned().ok()?;
        Some(Self { reason, _permit: permit })
    }

    /// Waits a little for a CONNECT, and answers it. Before that a proxy may say who is behind it.
    pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut wire: Wire<S>, is_proxy: bool) {
        let reason = self.reason;
        let Ok(Some(answer)) = timeout(PATIENCE, listen(&mut wire, reason, is_proxy)).await else { return };
        wire.close(&answer).await;
    }
}

/// Reads until an answer is known; none if there will be none.
async fn listen<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    reason: Reason,
    is_proxy: bool,
) -> Option<Vec<u8>> {
    if is_proxy {
        take_header(wire).await.ok()?;
    }
    loop {
        let answer = refusal(&wire.incoming, reason);
        if answer.is_some() || wire.incoming.len() >= BEGINNING {
            return answer;
        }
        if poll_fn(|context| wire.poll_read(context, BEGINNING)).await.ok()? == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_wait_for_a_word() {
        let permits = Arc::new(Semaphore::new(DISMISSALS));
        let begin = || Dismissal::begin(&permits, Reason::ServerBusy);
        let mut waiting: Vec<_> = (0..2 * DISMISSALS).filter_map(|_| begin()).collect();
        assert_eq!(waiting.len(), DISMISSALS);
        waiting.pop();
        assert!(begin().is_some());
    }

    #[tokio::test]
    async fn only_so_many_are_waited_for_until_they_have_taken_their_last_packet() {
        use futures_util::FutureExt as _;
        let farewells = Semaphore::new(FAREWELLS);
        let mut waiting = Vec::new();
        for number in 0..2 * FAREWELLS {
            let (near, far) = tokio::io::duplex(4);
            let farewells = &farewells;
            let mut going = Box::pin(async move { see_off(farewells, Wire::new(far), b"goodbye").await });
            let is_waited_for = going.as_mut().now_or_never().is_none();
            assert_eq!(is_waited_for, number < FAREWELLS, "{number}");
            waiting.extend(is_waited_for.then_some((near, going)));
        }
    }

    #[test]
    fn whoever_has_said_its_version_is_told_in_it() {
        let connect = |level: u8| [&[0x10, 0x80, 1, 0, 4][..], b"MQTT", &[level, 2, 0, 60]].concat();
        let v5 = refusal(&connect(5), Reason::ServerBusy).unwrap();
        assert_eq!((v5.first(), v5.get(3)), (Some(&0x20), Some(&0x89)));
        assert_eq!(refusal(&connect(4), Reason::ServerBusy), Some(vec![0x20, 2, 0, 3]));
        assert_eq!(refusal(&connect(4)[..10], Reason::ServerBusy), Some(vec![0x20, 2, 0, 3]));
        for other in [&connect(4)[..9], &connect(3), &connect(6), b"GET / \0\x04MQTT\x05", b""] {
            assert_eq!(refusal(other, Reason::ServerBusy), None, "{other:?}");
        }
    }
}
