//! Applying a patch to an image in memory, and driving futures that never wait.

use core::convert::Infallible;
use core::fmt;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::boxed::Box;
use std::vec::Vec;

use crate::decoder::apply;
use crate::error::{DeltaError, PatchError};
use crate::header::Header;
use crate::host::Host;
use crate::workspace::Workspace;

/// Why a patch was not applied to an image in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyError {
    /// The patch cannot be applied.
    Patch(PatchError),
    /// The old image is not the one that the patch was made for.
    WrongBase,
    /// The result is not what it should be: the patch is damaged.
    Damaged,
    /// The new image would be longer than the given limit.
    TooLong(u32),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Patch(error) => error.fmt(f),
            Self::WrongBase => PatchError::WrongBase.fmt(f),
            Self::Damaged => f.write_str("the patch is damaged: what it gives is not what it was made from"),
            Self::TooLong(len) => {
                write!(f, "the patch would give {len} bytes, which is more than there may be")
            }
        }
    }
}

impl core::error::Error for ApplyError {}

/// The CRC-32 of a header.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

/// Applies a patch, which gives at most `limit` bytes, to an old image, and checks the result.
///
/// # Errors
/// Returns an error if the patch is damaged, was made for another image, or would give more than `limit` bytes.
pub fn apply_to_slice(old: &[u8], patch: &[u8], limit: u32) -> Result<Vec<u8>, ApplyError> {
    let header: &[u8; Header::LEN] = patch.first_chunk().ok_or(ApplyError::Patch(PatchError::Truncated))?;
    let header = Header::parse(header).map_err(|error| ApplyError::Patch(error.into()))?;
    if u32::try_from(old.len()) != Ok(header.old_len) || crc(old) != header.old_crc {
        return Err(ApplyError::WrongBase);
    }
    if header.new_len > limit {
        return Err(ApplyError::TooLong(header.new_len));
    }
    let mut host = Slices { old, patch, new: Vec::new() };
    let mut workspace = Box::new(Workspace::new());
    match run(apply(&mut host, &mut workspace, |_| Ok(()))) {
        Ok(_) if crc(&host.new) == header.new_crc => Ok(host.new),
        Ok(_) => Err(ApplyError::Damaged),
        Err(DeltaError::Patch(error)) => Err(ApplyError::Patch(error)),
        Err(DeltaError::Host(never)) => match never {},
    }
}

/// Images and a patch in memory.
struct Slices<'a> {
    old: &'a [u8],
    patch: &'a [u8],
    new: Vec<u8>,
}

impl Host for Slices<'_> {
    type Error = Infallible;

    async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let count = buf.len().min(self.patch.len());
        let (now, later) = self.patch.split_at(count);
        buf[..count].copy_from_slice(now);
        self.patch = later;
        Ok(count)
    }

    async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.old[offset as usize..][..buf.len()]);
        Ok(())
    }

    async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.new[offset as usize..][..buf.len()]);
        Ok(())
    }

    async fn write_new(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.new.extend_from_slice(bytes);
        Ok(())
    }
}

/// Runs a future that has nothing to wait for.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
