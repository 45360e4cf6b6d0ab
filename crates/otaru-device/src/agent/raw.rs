//! A bare image as it arrives: its head is held against the plan before the first buffer goes to flash, its
//! structure, checksum and digest are checked all along.

use otaru_format::image::{HEAD_LEN, ImageCheck, ImageError, MAGIC};
use otaru_format::status::Code;

use super::failure::Failure;
use super::plan::Plan;
use super::stream::{Feeder, Stop};

/// An image on its way to the slot.
pub(super) struct Raw {
    check: ImageCheck,
    received: u32,
    slot_len: u32,
}

impl Raw {
    pub(super) fn new(slot_len: u32) -> Self {
        Self { check: ImageCheck::new(slot_len), received: 0, slot_len }
    }

    /// Begins again.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.slot_len);
    }

    /// Bytes that arrived.
    pub(super) const fn received(&self) -> u32 {
        self.received
    }

    /// Whether the image has arrived whole, by its own account.
    pub(super) fn is_complete(&self) -> bool {
        self.check.is_complete()
    }

    /// Hands the last buffer over.
    pub(super) async fn finish(&mut self, feeder: &mut Feeder<'_>) -> Result<(), Failure> {
        let check = core::mem::replace(&mut self.check, ImageCheck::new(self.slot_len));
        feeder.finish(check.finish()?.digest).await;
        Ok(())
    }

    /// Takes the next bytes.
    pub(super) async fn take(
        &mut self,
        mut bytes: &[u8],
        plan: &Plan<'_>,
        feeder: &mut Feeder<'_>,
    ) -> Result<(), Stop> {
        if self.received == 0 {
            // A page of a web server is no firmware, signed or not.
            if let Some(magic) = bytes.first().filter(|magic| **magic != MAGIC) {
                return Err(ImageError::NotAnImage { magic: *magic }.into());
            }
            plan.admit_unsigned()?;
            if let Some(total) = feeder.total.filter(|total| *total > self.slot_len) {
                return Err(Plan::too_large(total, self.slot_len));
            }
        }
        if bytes.len() as u64 + u64::from(self.received) > u64::from(self.slot_len) {
            return Err(Failure::new(
                Code::TooLarge,
                format_args!("more bytes arrive than the slot's {}", self.slot_len),
            )
            .into());
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(feeder.room()));
            feeder.hold(now).await;
            let had = self.received as usize;
            if had < HEAD_LEN && had + now.len() >= HEAD_LEN {
                plan.admit_image(&feeder.buffer().await[..HEAD_LEN])?;
            }
            self.check.feed(now)?;
            self.received += now.len() as u32;
            feeder.pass_full().await;
            bytes = later;
        }
        Ok(())
    }
}
