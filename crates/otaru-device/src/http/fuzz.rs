//! An answer read whole, for fuzzers.

use embedded_io_async::Read;

use super::BUFFER;
use super::body::Body;
use super::head::read_head;
use super::url::{MAX_TARGET, Target};
use crate::dial::MayBeTls;

/// Reads head and body; gives back how many bytes the body had, if the head was understood.
pub(crate) async fn answer(mut socket: impl Read<Error: MayBeTls>) -> Option<usize> {
    let mut text = [0; MAX_TARGET];
    let mut target = Target::default();
    target.follow(b"http://host:81/folder/file?query", &mut text).ok()?;
    let mut buf = [0; BUFFER - MAX_TARGET];
    let (head, held) = read_head(&mut socket, &mut target, &mut text, &mut buf).await.ok()?;
    // Both lead to where a redirect goes, and are printed in a request.
    let _ = (target.authority(&text), target.path(&text));
    let mut body = Body::new(held, head.framing);
    let mut len = 0;
    while let Ok(count) = body.fill(&mut socket, &mut buf).await {
        if count == 0 {
            break;
        }
        len += count;
        body.consume(u32::try_from(count).unwrap_or(u32::MAX));
    }
    let _ = (body.is_whole(), body.is_left_behind());
    Some(len)
}
