//! Between network and flash: a few buffers, filled while the flash is busy and written while the network is
//! waited for.

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::zerocopy_channel::{Channel, Receiver, Sender};
use embedded_storage_async::nor_flash::NorFlash;
use otaru_format::image::HEAD_LEN;

use crate::slots::{Region, SlotError, SlotWriter};

/// Bytes of one buffer: whole flash pages.
pub(super) const CHUNK: usize = 1024;
const _: () = assert!(CHUNK >= HEAD_LEN, "the first buffer holds the head");
/// Buffers. While a 64 KiB block is erased (150 ms) these and the TCP window take what arrives.
const CHUNKS: usize = 7;

/// The flash, for whoever needs it at the moment.
pub(super) type SharedFlash<'f, F> = Mutex<NoopRawMutex, &'f mut F>;

/// Places of the images on flash.
pub(super) struct SlotLayout<'s, 'f, F> {
    pub(super) flash: &'s SharedFlash<'f, F>,
    /// The slot an update goes to.
    pub(super) target: Region,
    /// The running image's.
    #[cfg_attr(not(feature = "lzma"), expect(dead_code, reason = "only patches read the running image"))]
    pub(super) running: Region,
}

impl<F> Clone for SlotLayout<'_, '_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for SlotLayout<'_, '_, F> {}

/// Request of the network side to the flash side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Write,
    /// The next bytes belong at this place of the slot, the start of a block.
    Seek(u32),
    /// The last bytes of the image.
    Finish,
}

/// One buffer.
pub(super) struct Chunk {
    order: Order,
    len: usize,
    bytes: [u8; CHUNK],
    total: Option<u32>,
}

/// The buffers.
pub(super) struct Pipe {
    chunks: [Chunk; CHUNKS],
}

/// The channel over a [`Pipe`]'s buffers.
pub(super) type Chunks<'p> = Channel<'p, NoopRawMutex, Chunk>;

impl Pipe {
    pub(super) const fn new() -> Self {
        const EMPTY: Chunk = Chunk { order: Order::Write, len: 0, bytes: [0; CHUNK], total: None };
        Self { chunks: [EMPTY; CHUNKS] }
    }

    pub(super) fn channel(&mut self) -> Chunks<'_> {
        Channel::new(&mut self.chunks)
    }
}

/// The network side's end: an image's bytes go in, in their order.
pub(super) struct Feeder<'f> {
    sender: Sender<'f, NoopRawMutex, Chunk>,
    filled: usize,
    /// The image's length, if known.
    pub(super) total: Option<u32>,
}

impl<'f> Feeder<'f> {
    pub(super) const fn new(sender: Sender<'f, NoopRawMutex, Chunk>) -> Self {
        Self { sender, filled: 0, total: None }
    }

    /// Returns the number of bytes that the present buffer still takes.
    pub(super) const fn room(&self) -> usize {
        CHUNK - self.filled
    }

    /// The buffer that is being filled.
    pub(super) async fn buffer(&mut self) -> &mut [u8; CHUNK] {
        &mut self.sender.send().await.bytes
    }

    /// Adds bytes to the present buffer, as many as it has [room](Self::room) for, without handing it over.
    pub(super) async fn hold(&mut self, bytes: &[u8]) {
        let at = self.filled;
        let count = bytes.len().min(self.room());
        self.buffer().await[at..at + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
    }

    /// Hands the present buffer over if it is full.
    pub(super) async fn pass_full(&mut self) {
        if self.room() == 0 {
            self.pass(Order::Write).await;
        }
    }

    /// Adds bytes, handing buffers over as they fill.
    pub(super) async fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.hold(now).await;
            self.pass_full().await;
            bytes = later;
        }
    }

    /// Drops what is held; the next bytes belong at `place` of the slot.
    pub(super) fn seek(&mut self, place: u32) -> impl Future<Output = ()> {
        self.filled = 0;
        self.pass(Order::Seek(place))
    }

    /// Hands the last bytes over.
    pub(super) fn finish(&mut self) -> impl Future<Output = ()> {
        self.pass(Order::Finish)
    }

    async fn pass(&mut self, order: Order) {
        let total = self.total;
        let len = core::mem::take(&mut self.filled);
        let chunk = self.sender.send().await;
        chunk.order = order;
        chunk.len = len;
        chunk.total = total;
        self.sender.send_done();
    }
}

/// Runs the flash side: writes what is there up to the image's end, and erases ahead when nothing is.
pub(super) async fn drain<F: NorFlash>(
    flash: &SharedFlash<'_, F>,
    writer: &mut SlotWriter,
    mut receiver: Receiver<'_, NoopRawMutex, Chunk>,
) -> Result<(), SlotError<F::Error>> {
    let mut begun = false;
    loop {
        if receiver.try_receive().is_none() && begun && writer.erase_ahead(*flash.lock().await).await? {
            continue;
        }
        let chunk = receiver.receive().await;
        let (order, len) = (chunk.order, chunk.len);
        begun |= order == Order::Write;
        if let Some(total) = chunk.total {
            writer.expect(total);
        }
        if let Order::Seek(place) = order {
            writer.seek(place);
        } else {
            writer.write(*flash.lock().await, &chunk.bytes[..len]).await?;
        }
        receiver.receive_done();
        if order == Order::Finish {
            return Ok(());
        }
    }
}
