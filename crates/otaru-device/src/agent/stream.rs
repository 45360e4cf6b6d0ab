//! Between network and flash: a few buffers, filled while the flash is busy and written while the network is
//! waited for.
//!
//! The image is checked as it passes: its head against the plan before the first buffer goes to flash, its
//! structure, checksum and digest all along.

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::zerocopy_channel::{Channel, Receiver, Sender};
use embedded_storage_async::nor_flash::NorFlash;
use otaru_format::chip::Chip;
use otaru_format::digest::Digest;
use otaru_format::image::{HEAD_LEN, Head, ImageCheck};
use otaru_format::status::Code;

use super::failure::Failure;
use super::update::Plan;
use crate::http::Sink;
use crate::report::Reports;
use crate::slots::{SlotError, SlotWriter};

/// Bytes of one buffer: whole flash pages.
const CHUNK: usize = 1024;
const _: () = assert!(CHUNK >= HEAD_LEN, "the first buffer holds the head");
/// Buffers. While a 64 KiB block is erased (150 ms) these and the TCP window take what arrives.
const CHUNKS: usize = 8;

/// Why a stream was broken off.
#[derive(Debug)]
pub(super) enum Stop {
    /// The image's descriptor is that of the running one; nothing was written.
    SameAsRunning,
    /// It cannot be taken.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the network side asks of the flash side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Write,
    /// The bytes start at 0 again.
    Restart,
    /// The last bytes of an image with this digest.
    Finish(Digest),
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

/// The network side: checks the bytes and fills the buffers.
pub(super) struct Filler<'f, 'p> {
    sender: Sender<'f, NoopRawMutex, Chunk>,
    plan: &'f Plan<'p>,
    reports: &'f Reports<'f>,
    check: ImageCheck,
    received: u32,
    filled: usize,
    total: Option<u32>,
}

impl<'f, 'p> Filler<'f, 'p> {
    pub(super) fn new(
        sender: Sender<'f, NoopRawMutex, Chunk>,
        plan: &'f Plan<'p>,
        reports: &'f Reports<'f>,
    ) -> Self {
        let check = ImageCheck::new(plan.slot_len);
        Self { sender, plan, reports, check, received: 0, filled: 0, total: None }
    }

    /// Whether the image has arrived whole, by its own account.
    pub(super) fn is_complete(&self) -> bool {
        self.check.is_complete()
    }

    /// Hands the last buffer over.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        let check = core::mem::replace(&mut self.check, ImageCheck::new(self.plan.slot_len));
        let summary = check.finish()?;
        self.pass(Order::Finish(summary.digest)).await;
        Ok(())
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

impl Plan<'_> {
    /// Decides by an image's first bytes whether to go on.
    fn admit(&self, head: &[u8]) -> Result<(), Stop> {
        let head = Head::parse(head)?;
        if head.header.chip() != Some(self.chip) {
            let found = head.header.chip().map_or("an unknown chip", Chip::name);
            return Err(Failure::refusal(
                Code::WrongChip,
                format_args!("the firmware is for {found}, this is {}", self.chip),
            )
            .into());
        }
        let Some(descriptor) = head.descriptor else { return Ok(()) };
        if let Some(project) = self.project.filter(|project| *project != descriptor.project()) {
            return Err(Failure::refusal(
                Code::WrongProduct,
                format_args!("the firmware is {:?}, this device runs {project:?}", descriptor.project()),
            )
            .into());
        }
        let elf = descriptor.elf_sha256();
        if !elf.is_zero() && elf == self.running_elf {
            return Err(Stop::SameAsRunning);
        }
        if self.failed_elf == Some(elf) {
            return Err(Failure::refusal(
                Code::FailedBefore,
                format_args!(
                    "version {} was rolled back before; offer it with \"force\":true to try again",
                    descriptor.version()
                ),
            )
            .into());
        }
        Ok(())
    }
}

impl Sink for Filler<'_, '_> {
    type Error = Stop;

    async fn begin(&mut self, total: Option<u32>) -> Result<(), Stop> {
        self.total = total;
        match total.filter(|total| *total > self.plan.slot_len) {
            Some(total) => Err(Failure::refusal(
                Code::TooLarge,
                format_args!("{total} bytes do not fit the slot of {}", self.plan.slot_len),
            )
            .into()),
            None => Ok(()),
        }
    }

    async fn data(&mut self, _offset: u32, mut bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() as u64 + u64::from(self.received) > u64::from(self.plan.slot_len) {
            return Err(Failure::new(
                Code::TooLarge,
                format_args!("more bytes arrive than the slot's {}", self.plan.slot_len),
            )
            .into());
        }
        while !bytes.is_empty() {
            let at = self.filled;
            let count = bytes.len().min(CHUNK - at);
            let (now, later) = bytes.split_at(count);
            let buffer = &mut self.sender.send().await.bytes;
            buffer[at..at + count].copy_from_slice(now);
            let had = self.received as usize;
            if had < HEAD_LEN && had + count >= HEAD_LEN {
                self.plan.admit(&buffer[..HEAD_LEN])?;
            }
            self.check.feed(now)?;
            self.filled += count;
            self.received += count as u32;
            bytes = later;
            if self.filled == CHUNK {
                self.pass(Order::Write).await;
            }
        }
        if let Some(total) = self.total.filter(|total| *total > 0) {
            let percent = u64::from(self.received) * 100 / u64::from(total);
            self.reports.progress(u8::try_from(percent.min(100)).unwrap_or(100));
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Stop> {
        self.check = ImageCheck::new(self.plan.slot_len);
        self.received = 0;
        self.filled = 0;
        self.pass(Order::Restart).await;
        Ok(())
    }
}

/// The flash side: writes what is there, and erases ahead when nothing is.
pub(super) async fn drain<F: NorFlash>(
    flash: &mut F,
    writer: &mut SlotWriter,
    mut receiver: Receiver<'_, NoopRawMutex, Chunk>,
) -> Result<Digest, SlotError<F::Error>> {
    let mut begun = false;
    loop {
        if receiver.try_receive().is_none() && begun && writer.erase_ahead(flash).await? {
            continue;
        }
        let chunk = receiver.receive().await;
        let (order, len) = (chunk.order, chunk.len);
        begun = true;
        if let Some(total) = chunk.total {
            writer.expect(total);
        }
        if order == Order::Restart {
            writer.restart();
        } else {
            writer.write(flash, &chunk.bytes[..len]).await?;
        }
        receiver.receive_done();
        if let Order::Finish(digest) = order {
            return Ok(digest);
        }
    }
}
