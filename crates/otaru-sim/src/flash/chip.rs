//! The chip itself: it programs and erases, counts, wears, fails, and loses its power where that is asked for.

use std::ops::Range;
use std::time::Duration;

use tokio::sync::watch;

use super::cells::Cells;
use super::cut::{PowerCut, torn};
use super::error::FlashError;
use super::record::{Change, Counts, InitialReads, Operation};
use super::timing::Timing;
use super::units::{BLOCK, SECTOR};
use crate::clock::SimClock;

#[derive(Debug)]
pub(super) struct Chip {
    pub(super) cells: Cells,
    pub(super) timing: Timing,
    pub(super) clock: SimClock,
    /// Until when the chip is busy. Keeps the parts of a millisecond that timers cannot.
    pub(super) busy_until: Duration,
    pub(super) counts: Counts,
    pub(super) wear: Vec<u32>,
    pub(super) log: Vec<Operation>,
    pub(super) changes: Option<Vec<Change>>,
    pub(super) traces: Option<InitialReads>,
    pub(super) cut: Option<PowerCut>,
    pub(super) unreadable: Range<u32>,
    pub(super) done: u64,
    pub(super) power: watch::Sender<bool>,
}

impl Chip {
    pub(super) fn over(cells: Cells, timing: Timing, clock: SimClock) -> Self {
        let sectors = (cells.len() / SECTOR) as usize;
        Self {
            cells,
            timing,
            clock,
            busy_until: Duration::ZERO,
            counts: Counts::default(),
            wear: vec![0; sectors],
            log: Vec::new(),
            changes: None,
            traces: None,
            cut: None,
            unreadable: 0..0,
            done: 0,
            power: watch::Sender::new(true),
        }
    }

    pub(super) fn check(&self, from: u32, len: u32, unit: u32) -> Result<(), FlashError> {
        if !*self.power.borrow() {
            return Err(FlashError::PowerLost);
        }
        if !from.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(FlashError::NotAligned);
        }
        match from.checked_add(len) {
            Some(end) if end <= self.cells.len() => Ok(()),
            _ => Err(FlashError::OutOfBounds),
        }
    }

    /// Reads; gives back how long it takes.
    pub(super) fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<Duration, FlashError> {
        self.check(offset, bytes.len() as u32, 1)?;
        self.counts.reads += 1;
        if offset < self.unreadable.end && self.unreadable.start < offset + bytes.len() as u32 {
            return Err(FlashError::Unreadable);
        }
        if let Some(traces) = &mut self.traces {
            traces.note_read(offset, bytes.len() as u32);
        }
        self.cells.read(offset, bytes)?;
        Ok(self.timing.read_kib * bytes.len() as u32 / 1024)
    }

    /// Erases a sector or a block; gives back how long it takes.
    pub(super) fn erase(&mut self, offset: u32, len: u32) -> Result<Duration, FlashError> {
        self.check(offset, len, SECTOR)?;
        let block = len == BLOCK;
        let count = if block { &mut self.counts.block_erases } else { &mut self.counts.sector_erases };
        *count += 1;
        for sector in offset / SECTOR..(offset + len) / SECTOR {
            self.wear[sector as usize] += 1;
        }
        self.change(Operation { erase: true, offset, len }, &vec![0xFF; len as usize])?;
        Ok(if block { self.timing.block_erase } else { self.timing.sector_erase })
    }

    /// Programs within a page; gives back how long it takes.
    pub(super) fn program(&mut self, offset: u32, page: &[u8]) -> Result<Duration, FlashError> {
        let len = page.len() as u32;
        self.check(offset, len, 4)?;
        let mut after = vec![0; page.len()];
        self.cells.read(offset, &mut after)?;
        after.iter_mut().zip(page).for_each(|(cell, byte)| *cell &= byte);
        self.counts.pages += 1;
        self.change(Operation { erase: false, offset, len }, &after)?;
        Ok(self.timing.page_program)
    }

    /// Changes cells to `after`, or some of them if power is cut in the middle.
    pub(super) fn change(&mut self, operation: Operation, after: &[u8]) -> Result<(), FlashError> {
        self.log.push(operation);
        if let Some(changes) = &mut self.changes {
            changes.push(Change { operation, after: after.to_vec() });
        }
        if let Some(traces) = &mut self.traces {
            traces.note(operation);
        }
        let number = self.done;
        self.done += 1;
        match self.cut.filter(|cut| cut.operation == number && cut.byte <= operation.len) {
            None => self.cells.write(operation.offset, after),
            Some(cut) => {
                let whole = cut.byte.min(operation.len) as usize;
                self.cells.write(operation.offset, &after[..whole])?;
                if let Some(wanted) = after.get(whole) {
                    let at = operation.offset + cut.byte;
                    let mut before = [0];
                    self.cells.read(at, &mut before)?;
                    self.cells.write(at, &[torn(at, before[0], *wanted)])?;
                }
                self.power.send_replace(false);
                Err(FlashError::PowerLost)
            }
        }
    }
}
