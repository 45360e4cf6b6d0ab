//! The patch as it comes in: compressed bytes from the host, numbers and bytes for the decoder.

use otaru_lzma::Decoder;

use crate::error::{DeltaError, PatchError};
use crate::host::Host;

/// Compressed bytes that are read at once.
pub(crate) const INPUT: usize = 256;
/// Bytes that are decompressed at once.
pub(crate) const OUTPUT: usize = 512;

/// Buffers of an [`Input`].
pub(crate) struct Buffers {
    input: [u8; INPUT],
    output: [u8; OUTPUT],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { input: [0; INPUT], output: [0; OUTPUT] }
    }
}

/// The part of a patch behind its header.
pub(crate) struct Input<'w> {
    decoder: Decoder<'w>,
    buffers: &'w mut Buffers,
    /// The compressed bytes that are not used yet.
    compressed: (usize, usize),
    /// The decompressed bytes that are not used yet.
    ready: (usize, usize),
}

impl<'w> Input<'w> {
    pub(crate) fn new(decoder: Decoder<'w>, buffers: &'w mut Buffers) -> Self {
        Self { decoder, buffers, compressed: (0, 0), ready: (0, 0) }
    }

    /// The next byte.
    #[inline]
    pub(crate) async fn byte<H: Host>(&mut self, host: &mut H) -> Result<u8, DeltaError<H::Error>> {
        if self.ready.0 == self.ready.1 {
            self.fill(host).await?;
        }
        let byte = self.buffers.output[self.ready.0];
        self.ready.0 += 1;
        Ok(byte)
    }

    /// A number: seven bits a byte, the lowest first, the eighth bit set in all but the last.
    pub(crate) async fn number<H: Host>(&mut self, host: &mut H) -> Result<u32, DeltaError<H::Error>> {
        let mut number = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.byte(host).await?;
            let bits = u32::from(byte & 0x7F);
            if shift == 28 && bits > 0xF {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(PatchError::Number.into())
    }

    /// A number with a sign, which is the lowest bit.
    pub(crate) async fn signed<H: Host>(&mut self, host: &mut H) -> Result<i32, DeltaError<H::Error>> {
        let number = self.number(host).await?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// Decompresses some more, at least a byte.
    async fn fill<H: Host>(&mut self, host: &mut H) -> Result<(), DeltaError<H::Error>> {
        loop {
            let (start, end) = self.compressed;
            let step = self.decoder.decode_at_most(&self.buffers.input[start..end], OUTPUT);
            let step = step.map_err(PatchError::Stream)?;
            self.compressed.0 += step.consumed;
            let output = step.output;
            if !output.is_empty() {
                self.buffers.output[..output.len()].copy_from_slice(output);
                self.ready = (0, output.len());
                return Ok(());
            }
            self.read(host).await?;
        }
    }

    /// Reads compressed bytes, if all that were read are used.
    async fn read<H: Host>(&mut self, host: &mut H) -> Result<(), DeltaError<H::Error>> {
        if self.compressed.0 < self.compressed.1 || self.decoder.is_complete() {
            return Err(PatchError::Truncated.into());
        }
        let count = host.read_patch(&mut self.buffers.input).await.map_err(DeltaError::Host)?;
        if count == 0 {
            return Err(PatchError::Truncated.into());
        }
        self.compressed = (0, count.min(INPUT));
        Ok(())
    }

    /// Checks that this is the end of the stream and of the patch.
    pub(crate) async fn finish<H: Host>(mut self, host: &mut H) -> Result<(), DeltaError<H::Error>> {
        while self.ready.0 == self.ready.1 {
            let (start, end) = self.compressed;
            let step = self.decoder.decode_at_most(&self.buffers.input[start..end], OUTPUT);
            let step = step.map_err(PatchError::Stream)?;
            self.compressed.0 += step.consumed;
            if !step.output.is_empty() {
                break;
            }
            if !self.decoder.is_complete() {
                self.read(host).await?;
                continue;
            }
            let rest = self.compressed.0 < self.compressed.1;
            let mut more = [0];
            if rest || host.read_patch(&mut more).await.map_err(DeltaError::Host)? > 0 {
                break;
            }
            return Ok(());
        }
        Err(PatchError::Trailing.into())
    }
}
