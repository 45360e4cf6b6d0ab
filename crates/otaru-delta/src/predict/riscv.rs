//! Addresses in RISC-V code: jumps, and pairs of instructions that make an address of its upper 20 and lower 12 bits.
//!
//! Encodings are those of the RISC-V unprivileged specification, chapters "RV32I" and "C".

use super::{Lesson, Prediction, Predictor, Spot, Window, word_at};

/// For how many bytes the upper bits in a register are remembered.
const MEMORY: u32 = 2048;
/// The registers that a function need not keep: t0 to t6 and a0 to a7.
const CALLER_SAVED: [usize; 15] = [5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31];
/// How many instructions after LUI its address's lower bits are looked for.
const SEARCH: usize = 12;

/// Opcodes, the lowest seven bits.
const LOAD: u32 = 0x03;
const OP_IMM: u32 = 0x13;
const AUIPC: u32 = 0x17;
const STORE: u32 = 0x23;
const BRANCH: u32 = 0x63;
const LUI: u32 = 0x37;
const JALR: u32 = 0x67;
const JAL: u32 = 0x6F;

/// What is known of the instructions in front of a place.
#[derive(Default)]
pub(super) struct Flow {
    /// The offset of the next instruction in the old image.
    next: u32,
    /// What LUI put into each register, and the offset up to which it counts.
    upper: [(u32, u32); 32],
}

impl Flow {
    pub(super) fn jump(&mut self) {
        *self = Self::default();
    }

    /// Forgets what is in a register that was written, and with the return address what a call may have changed.
    fn forget(&mut self, register: usize) {
        self.upper[register] = (0, 0);
        if register == 1 {
            for register in CALLER_SAVED {
                self.upper[register] = (0, 0);
            }
        }
    }
}

const fn rd(instruction: u32) -> usize {
    (instruction >> 7) as usize & 31
}

/// The register that an instruction writes, 0 for none, 1 (the return address) for calls.
const fn written(instruction: u32) -> usize {
    match (instruction & 3, instruction >> 13 & 7) {
        (3, _) => match instruction & 0x7F {
            STORE | BRANCH => 0,
            _ => rd(instruction),
        },
        // C.ADDI4SPN, C.LW.
        (0, 0 | 2) => 8 + (instruction >> 2 & 7) as usize,
        // C.JAL.
        (1, 1) => 1,
        // C.SRLI, C.SRAI, C.ANDI, C.SUB and its like.
        (1, 4) => 8 + (instruction >> 7 & 7) as usize,
        // C.ADDI, C.LI, C.LUI, C.SLLI, C.LWSP.
        (1, 0 | 2 | 3) | (2, 0 | 2) => rd(instruction),
        // C.MV, C.ADD; without a second register, C.JR and C.JALR.
        (2, 4) if instruction >> 2 & 31 != 0 => rd(instruction),
        (2, 4) if instruction >> 12 & 1 != 0 => 1,
        _ => 0,
    }
}

const fn rs1(instruction: u32) -> usize {
    (instruction >> 15) as usize & 31
}

/// Whether an instruction has the lower bits of an address, as a distance from a register: ADDI, loads, stores.
const fn uses_low(instruction: u32) -> bool {
    match instruction & 0x7F {
        OP_IMM => instruction & 0x7000 == 0,
        LOAD | STORE => true,
        _ => false,
    }
}

/// The lower bits of such an instruction.
const fn low(instruction: u32) -> i32 {
    let signed = instruction.cast_signed();
    match instruction & 0x7F {
        STORE => (signed >> 25) << 5 | (instruction >> 7 & 31).cast_signed(),
        _ => signed >> 20,
    }
}

/// The same instruction with other lower bits.
const fn with_low(instruction: u32, low: u32) -> u32 {
    match instruction & 0x7F {
        STORE => instruction & 0x01FF_F07F | (low >> 5 & 0x7F) << 25 | (low & 31) << 7,
        _ => instruction & 0xF_FFFF | low << 20,
    }
}

/// The upper bits of an address, for lower ones that are signed.
const fn upper(address: u32) -> u32 {
    address.wrapping_add(0x800) & 0xFFFF_F000
}

/// The address nearest to the expected one that has an instruction's lower bits.
pub(super) fn complete(instruction: u32, expected: u32) -> u32 {
    let away = low(instruction).cast_unsigned().wrapping_sub(expected) & 0xFFF;
    expected.wrapping_add(away).wrapping_sub(if away > 0x800 { 0x1000 } else { 0 })
}

/// Where AUIPC at this address and the instruction after it lead to.
pub(super) const fn pair_target(auipc: u32, second: u32, at: u32) -> u32 {
    at.wrapping_add(auipc & 0xFFFF_F000).wrapping_add_signed(low(second))
}

/// How far JAL jumps.
const fn jump_distance(instruction: u32) -> i32 {
    let bits = (instruction >> 31 & 1) << 20
        | (instruction >> 12 & 0xFF) << 12
        | (instruction >> 20 & 1) << 11
        | (instruction >> 21 & 0x3FF) << 1;
    (bits << 11).cast_signed() >> 11
}

/// JAL with another distance.
const fn with_jump_distance(instruction: u32, distance: u32) -> u32 {
    instruction & 0xFFF
        | (distance >> 20 & 1) << 31
        | (distance >> 1 & 0x3FF) << 21
        | (distance >> 11 & 1) << 20
        | (distance >> 12 & 0xFF) << 12
}

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
        Some(prediction.teaching(Lesson::Pair { old, at: spot.new }))
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
        Some(Prediction::word(with_low(instruction, expected)).teaching(Lesson::Low { old, expected }))
    }
}
