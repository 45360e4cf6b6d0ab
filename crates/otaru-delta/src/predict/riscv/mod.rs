//! Addresses in RISC-V code: jumps, and pairs of instructions that make an address of its upper 20 and lower 12 bits.

pub(super) mod flow;
pub(super) mod instruction;

use self::instruction::{
    AUIPC, JAL, JALR, LOAD, LUI, OP_IMM, jump_distance, low, pair_target, rd, rs1, upper, uses_low,
    with_jump_distance, with_low, written,
};
use super::prediction::{AddressSource, Prediction};
use super::predictor::Predictor;
use super::words::{Spot, Window, word_at};

/// For how many bytes the upper bits in a register are remembered.
const MEMORY: u32 = 2048;
/// Number of instructions after LUI among which its address's lower bits are looked for.
const SEARCH: usize = 12;

impl Predictor<'_> {
    /// A place in a code segment.
    pub(super) fn riscv(&mut self, spot: &Spot, window: &Window) -> Option<Prediction> {
        if !spot.old.is_multiple_of(2) || !spot.new.is_multiple_of(2) || spot.offset < self.riscv.next {
            return None;
        }
        let instruction = word_at(window, 0);
        let written = written(instruction);
        let prediction = self.instruction(spot, instruction, window);
        if instruction & 0x7F != LUI || prediction.is_none() {
            self.riscv.forget(written);
        }
        prediction
    }

    fn instruction(&mut self, spot: &Spot, instruction: u32, window: &Window) -> Option<Prediction> {
        if instruction & 3 != 3 {
            return None;
        }
        self.riscv.next = spot.offset + 4;
        if spot.left < 4 {
            return None;
        }
        match instruction & 0x7F {
            JAL => self.jump_and_link(spot, instruction),
            AUIPC => self.auipc(spot, instruction, word_at(window, 4)),
            LUI => self.lui(spot, instruction, window),
            _ if uses_low(instruction) => self.low_bits(spot, instruction),
            _ => None,
        }
    }

    fn jump_and_link(&self, spot: &Spot, instruction: u32) -> Option<Prediction> {
        let target = spot.old.wrapping_add_signed(jump_distance(instruction));
        if rd(instruction) > 1 || !self.is_code(target) {
            return None;
        }
        let distance = self.moved(target)?.wrapping_sub(spot.new);
        let reach = (-(1 << 20)..1 << 20).contains(&distance.cast_signed());
        reach.then(|| Prediction::word(with_jump_distance(instruction, distance)))
    }

    /// AUIPC and the instruction right after it, which takes the same register.
    fn auipc(&mut self, spot: &Spot, instruction: u32, second: u32) -> Option<Prediction> {
        let together = rd(instruction) != 0 && rs1(second) == rd(instruction);
        if !together || spot.left < 8 || !matches!(second & 0x7F, JALR | OP_IMM | LOAD) {
            return None;
        }
        let old = pair_target(instruction, second, spot.old);
        let distance = self.moved(old)?.wrapping_sub(spot.new);
        self.riscv.next = spot.offset + 8;
        let first = instruction & 0xFFF | upper(distance);
        let prediction = Prediction::pair(first, second & 0xF_FFFF | distance << 20);
        Some(prediction.teaching(AddressSource::Pair { old, at: spot.new }))
    }

    /// LUI: the address it belongs to is that of the next instruction with its lower bits.
    fn lui(&mut self, spot: &Spot, instruction: u32, window: &Window) -> Option<Prediction> {
        let register = rd(instruction);
        let high = instruction & 0xFFFF_F000;
        if register == 0 {
            return None;
        }
        let mut at = 4;
        let mut address = high;
        for _ in 0..SEARCH {
            let next = word_at(window, at);
            if uses_low(next) && rs1(next) == register {
                address = high.wrapping_add_signed(low(next));
                break;
            }
            at += if next & 3 == 3 { 4 } else { 2 };
        }
        let moved = self.moved(address)?;
        self.riscv.upper[register] = (high, spot.offset + MEMORY);
        Some(Prediction::word(instruction & 0xFFF | upper(moved)))
    }

    /// The lower bits for what LUI left in a register.
    fn low_bits(&self, spot: &Spot, instruction: u32) -> Option<Prediction> {
        let (high, until) = self.riscv.upper[rs1(instruction)];
        if spot.offset >= until {
            return None;
        }
        let old = high.wrapping_add_signed(low(instruction));
        let expected = self.moved(old)?;
        Some(Prediction::word(with_low(instruction, expected)).teaching(AddressSource::Low { old, expected }))
    }
}
