//! Reading a slot back and checking the image in it as the bootloader will.

use core::fmt;

use embedded_storage_async::nor_flash::ReadNorFlash;
use otaru_format::image::{ImageCheck, ImageError, ImageSummary};

use super::region::Region;

/// Bytes to read at once: a sector. Every read of flash stops the cache, and with it the program, for a moment.
pub const READ_BACK: usize = 4096;

/// Why a slot holds no good image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum VerifyError<E> {
    /// The flash failed.
    Flash(E),
    /// The image is bad.
    Image(ImageError),
}

impl<E: fmt::Debug> fmt::Display for VerifyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "flash: {error:?}"),
            Self::Image(error) => write!(f, "{error}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for VerifyError<E> {}

/// Checks the image at the start of `region`, through `buf`.
///
/// # Errors
/// Returns [`VerifyError::Flash`] if the flash cannot be read, and [`VerifyError::Image`] if the image is damaged.
pub async fn verify<F: ReadNorFlash>(
    flash: &mut F,
    region: &Region,
    buf: &mut [u8],
) -> Result<ImageSummary, VerifyError<F::Error>> {
    let mut check = ImageCheck::new(region.len);
    let mut at = 0;
    while !check.is_complete() && at < region.len && !buf.is_empty() {
        let count = buf.len().min((region.len - at) as usize);
        let piece = &mut buf[..count];
        flash.read(region.offset + at, piece).await.map_err(VerifyError::Flash)?;
        check.feed(piece).map_err(VerifyError::Image)?;
        at += count as u32;
    }
    check.finish().map_err(VerifyError::Image)
}
