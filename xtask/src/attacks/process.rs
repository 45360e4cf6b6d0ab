//! Use of the machine by a process.

use std::fs;

use anyhow::{Context as _, Result};

/// Memory of a process, by the kernel's account.
pub(super) struct Memory(u32);

impl Memory {
    /// Of the process with this id.
    pub(super) fn of(id: u32) -> Self {
        Self(id)
    }

    /// Bytes it has in use.
    ///
    /// # Errors
    /// Returns an error if the process has ended.
    pub(super) fn now(&self) -> Result<u64> {
        self.field("VmRSS:")
    }

    /// The most bytes it had in use since [`Memory::reset_peak`].
    ///
    /// # Errors
    /// Returns an error if the process has ended.
    pub(super) fn peak(&self) -> Result<u64> {
        self.field("VmHWM:")
    }

    /// Begins anew to note the most it has in use: proc(5), `/proc/pid/clear_refs`.
    ///
    /// # Errors
    /// Returns an error if the process has ended, or belongs to another user.
    pub(super) fn reset_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").context("cannot reset the memory's peak")
    }

    fn field(&self, name: &str) -> Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.0)).context("the server has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line.with_context(|| format!("no {name}"))?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

/// Reads the number of processes that waited for a processor, in the last minute and on average.
pub(super) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}
