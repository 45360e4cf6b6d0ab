//! Gathers the many small reads and writes of an MQTT client into few socket calls.

use embedded_io_async::{ErrorType, Read, Write};

const READ: usize = 256;
const WRITE: usize = 1024;

/// A connection with a read and a write buffer.
pub(super) struct Buffered<S> {
    socket: S,
    read: [u8; READ],
    start: usize,
    end: usize,
    write: [u8; WRITE],
    held: usize,
}

impl<S> Buffered<S> {
    pub(super) const fn new(socket: S) -> Self {
        Self { socket, read: [0; READ], start: 0, end: 0, write: [0; WRITE], held: 0 }
    }
}

impl<S: ErrorType> ErrorType for Buffered<S> {
    type Error = S::Error;
}

impl<S: Read> Read for Buffered<S> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, S::Error> {
        if self.start == self.end {
            if buf.len() >= READ {
                return self.socket.read(buf).await;
            }
            self.start = 0;
            self.end = 0;
            self.end = self.socket.read(&mut self.read).await?;
        }
        let count = buf.len().min(self.end - self.start);
        buf[..count].copy_from_slice(&self.read[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

impl<S: Write> Write for Buffered<S> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, S::Error> {
        if self.held == WRITE {
            self.drain().await?;
        }
        let count = buf.len().min(WRITE - self.held);
        self.write[self.held..self.held + count].copy_from_slice(&buf[..count]);
        self.held += count;
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.drain().await?;
        self.socket.flush().await
    }
}

impl<S: Write> Buffered<S> {
    async fn drain(&mut self) -> Result<(), S::Error> {
        let held = core::mem::take(&mut self.held);
        self.socket.write_all(&self.write[..held]).await
    }
}
