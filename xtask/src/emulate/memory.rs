//! Depth of the stack, read from the emulated memory, and the least heap that was left, as the device reports it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::qmp::Qmp;

/// Least bytes that must be left of the stack where it goes deepest.
const STACK_LEFT: u64 = 16 * 1024;
const WORD: usize = 4;

/// Range of a program's main stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stack {
    /// The lowest word that it may use.
    bottom: u64,
    top: u64,
}

impl Stack {
    /// The main stack of the program in `elf`. The word at `__stack_chk_guard` and what is below it are no stack.
    pub(super) fn of(elf: &Path) -> Result<Self> {
        let bytes = fs::read(elf).with_context(|| format!("no program {}", elf.display()))?;
        let program = object::File::parse(&*bytes)?;
        let section = program.section_by_name(".stack").context("a program without a stack")?;
        let top = section.address() + section.size();
        let guard = program.symbols().find(|symbol| symbol.name() == Ok("__stack_chk_guard"));
        let bottom = guard.map_or(section.address(), |guard| guard.address() + WORD as u64);
        ensure!(bottom < top, "the stack from {bottom:#x} to {top:#x} is none");
        Ok(Self { bottom, top })
    }

    /// The bytes of it.
    pub(super) fn size(self) -> u64 {
        self.top - self.bottom
    }

    /// Bytes of it that were never used since the start, or since the power came where the firmware paints none.
    pub(super) fn left(self, qmp: &mut Qmp, dump: &Path) -> Result<u64> {
        let memory = qmp.memory(self.bottom, self.size(), dump)?;
        if memory.len() as u64 != self.size() {
            bail!("{} bytes of stack instead of {}", memory.len(), self.size());
        }
        Ok(untouched(&memory))
    }
}

/// Bytes that the deepest stack and the fullest heap left over, in one part of the story.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    pub(super) stack: u64,
    pub(super) stack_left: u64,
    pub(super) heap_left: Option<u64>,
}

/// The table of them.
#[derive(Default)]
pub(super) struct HighWater(Vec<(&'static str, Marks)>);

impl HighWater {
    pub(super) fn add(&mut self, part: &'static str, marks: Marks) {
        self.0.push((part, marks));
    }

    /// Prints the table, as `docs/performance.md` shows it; fails if too little stack was left anywhere.
    pub(super) fn judge(&self) -> Result<()> {
        println!("| most in use, esp32c3 | stack | of | stack left | heap left |");
        println!("| --- | ---: | ---: | ---: | ---: |");
        for (part, marks) in &self.0 {
            let heap = marks.heap_left.map_or_else(|| "not reported".to_owned(), |bytes| bytes.to_string());
            let used = marks.stack.saturating_sub(marks.stack_left);
            println!("| {part} | {used} | {} | {} | {heap} |", marks.stack, marks.stack_left);
        }
        for (part, marks) in &self.0 {
            ensure!(
                marks.stack_left >= STACK_LEFT,
                "{part}: {} bytes of stack left, at least {STACK_LEFT} must be",
                marks.stack_left
            );
        }
        Ok(())
    }
}

/// The bytes at the bottom that have the paint, whatever it is: memory that nobody wrote to is all of one word.
fn untouched(stack: &[u8]) -> u64 {
    let mut words = stack.chunks_exact(WORD);
    let paint = stack.get(..WORD).unwrap_or_default();
    let touched = words.position(|word| word != paint).unwrap_or(stack.len() / WORD);
    (touched * WORD) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_is_counted_up_to_the_first_word_that_was_used() {
        assert_eq!(untouched(&[0xC5; 64]), 64);
        let mut stack = [0xC5; 64];
        stack[33] = 0;
        assert_eq!(untouched(&stack), 32);
        stack[3] = 1;
        assert_eq!(untouched(&stack), 4);
        assert_eq!(untouched(&[]), 0);
    }

    #[test]
    fn too_little_stack_fails_the_run() {
        let marks = |stack_left| Marks { stack: 50_000, stack_left, heap_left: None };
        let mut table = HighWater::default();
        table.add("idle", marks(STACK_LEFT));
        assert!(table.judge().is_ok());
        table.add("a release", marks(STACK_LEFT - 4));
        assert!(table.judge().is_err_and(|error| error.to_string().starts_with("a release:")));
    }
}
