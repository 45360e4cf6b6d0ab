//! Processor time of processes, as the kernel's `stat` files tell of it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Process or thread.
pub(crate) struct Stat {
    /// Process that started it.
    pub(crate) parent: u32,
    /// Seconds of processor time.
    pub(crate) own: f64,
    /// Seconds of its children that have ended.
    pub(crate) ended: f64,
}

impl Stat {
    /// Reads one from its folder, `/proc/<id>` or `/proc/<id>/task/<id>`.
    ///
    /// # Errors
    /// Returns an error if it has ended.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        Self::parse(&fs::read_to_string(folder.join("stat"))?)
    }

    /// Takes a `stat` apart (proc_pid_stat(5)).
    fn parse(text: &str) -> Result<Self> {
        /// Of the kernel's accounting, on every Linux there is.
        const TICKS: f64 = 100.0;
        // The name, in brackets, may have anything in it.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |index: usize| fields.get(index).context("a short stat");
        let seconds = |index: usize| Ok::<_, anyhow::Error>(field(index)?.parse::<f64>()? / TICKS);
        Ok(Self {
            parent: field(1)?.parse()?,
            own: seconds(11)? + seconds(12)?,
            ended: seconds(13)? + seconds(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system_whatever_the_name() {
        let stat = Stat::parse("7 (a) b) S 3 1 1 0 -1 4194304 100 0 0 0 250 50 20 10 20 0 8 0").unwrap();
        assert_eq!(stat.parent, 3);
        assert!((stat.own - 3.0).abs() < 1e-9 && (stat.ended - 0.3).abs() < 1e-9);
        assert!(Stat::parse("7 (a) S").is_err());
    }
}
