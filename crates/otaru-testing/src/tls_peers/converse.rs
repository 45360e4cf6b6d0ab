//! Conversation of a peer with a device over a stream.

use embedded_io_async::{Read, Write};

use super::peer::{Peer, Then};

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// Lets a peer talk until one of both ends is gone. A peer that has nothing more to say goes on to hear.
pub async fn converse(mut stream: impl Read + Write, peer: &mut dyn Peer) {
    let mut piece = [0; PIECE];
    let mut count = 0;
    loop {
        let said = peer.hear(&piece[..count]);
        // A device that is gone may have said something before.
        let _ = stream.write_all(&said).await;
        let _ = stream.flush().await;
        if peer.then() == Then::Close {
            return;
        }
        count = match stream.read(&mut piece).await {
            Ok(count) if count > 0 => count,
            _ => return,
        };
    }
}
