//! Gathers the many small reads and writes of an MQTT client into few socket calls.

use embedded_io_async::{ErrorType, Read, Write};

/// Bytes read at once.
const READ: usize = 256;
/// Bytes gathered before they are sent; what is longer is sent from where it stands.
const WRITE: usize = 256;

/// The memory of a [`Buffered`]; apart from it, so that moving that moves no buffers.
pub(crate) struct Buffers {
    read: [u8; READ],
    write: [u8; WRITE],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { read: [0; READ], write: [0; WRITE] }
    }
}

/// A connection with a read and a write buffer.
pub(super) struct Buffered<'b, S> {
    socket: S,
    buffers: &'b mut Buffers,
    start: usize,
    end: usize,
    held: usize,
}

impl<'b, S> Buffered<'b, S> {
    pub(super) const fn new(socket: S, buffers: &'b mut Buffers) -> Self {
        Self { socket, buffers, start: 0, end: 0, held: 0 }
    }
}

impl<S: ErrorType> ErrorType for Buffered<'_, S> {
    type Error = S::Error;
}

impl<S: Read> Read for Buffered<'_, S> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, S::Error> {
        if self.start == self.end {
            if buf.len() >= READ {
                return self.socket.read(buf).await;
            }
            self.start = 0;
            self.end = 0;
            self.end = self.socket.read(&mut self.buffers.read).await?;
        }
        let count = buf.len().min(self.end - self.start);
        buf[..count].copy_from_slice(&self.buffers.read[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

impl<S: Write> Write for Buffered<'_, S> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, S::Error> {
        if self.held == WRITE {
            self.drain().await?;
        }
        if self.held == 0 && buf.len() >= WRITE {
            return self.socket.write(buf).await;
        }
        let count = buf.len().min(WRITE - self.held);
        self.buffers.write[self.held..self.held + count].copy_from_slice(&buf[..count]);
        self.held += count;
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.drain().await?;
        self.socket.flush().await
    }
}

impl<S: Write> Buffered<'_, S> {
    async fn drain(&mut self) -> Result<(), S::Error> {
        let held = core::mem::take(&mut self.held);
        self.socket.write_all(&self.buffers.write[..held]).await
    }
}
