//! Random numbers that nobody can guess, for TLS.
#![forbid(unsafe_code)]

use core::convert::Infallible;

use esp_hal::rng::Rng;
use rand_core::{TryCryptoRng, TryRng};

/// Random numbers of the chip while its radio runs: its noise is what makes them unpredictable. Without it they are a pattern that starts anew
/// with the chip.
#[derive(Clone, Copy)]
pub struct RadioRng(Rng);

impl RadioRng {
    /// Takes the chip's generator. The radio has to be running whenever a number is drawn.
    pub fn new() -> Self {
        Self(Rng::new())
    }
}

impl Default for RadioRng {
    fn default() -> Self {
        Self::new()
    }
}

impl TryRng for RadioRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.random())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.0.random()) << 32 | u64::from(self.0.random()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.read(bytes);
        Ok(())
    }
}

impl TryCryptoRng for RadioRng {}
