//! Access to the images and the patch, wherever they are.

/// Access to the old image, to the new one as far as it is written, and to the patch.
///
/// Offsets are bytes from an image's start. The decoder keeps buffers of its own, so that none of these calls need
/// be cheap; both images are read at random places, in pieces that begin at a multiple of 256 bytes and are at most
/// 1280 bytes long.
pub trait Host {
    /// Error of reading or writing.
    type Error;

    /// Reads the patch where it was left off, header included: at least a byte, as long as there are any, and 0 at
    /// its end.
    ///
    /// # Errors
    /// Returns an error if the patch cannot be read; the decoder then gives up.
    async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error>;

    /// Fills `buf` from the old image. It never reaches beyond the old length of the patch's header.
    ///
    /// # Errors
    /// Returns an error if the old image cannot be read; the decoder then gives up.
    async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Fills `buf` with what was written at this place of the new image. It never reaches beyond that.
    ///
    /// # Errors
    /// Returns an error if the new image cannot be read; the decoder then gives up.
    async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Takes the next bytes of the new image, in pieces of 1 to 1024 bytes: all of 1024 but the last.
    ///
    /// After a reboot a patch is applied from its start again. What the first call of this method brought, the second run
    /// brings too, byte for byte, so whoever holds these bytes already need not write them.
    ///
    /// # Errors
    /// Returns an error if the bytes cannot be written, or are refused; the decoder then gives up.
    async fn write_new(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}
