//! The encodings of RISC-V instructions: those of the RISC-V unprivileged specification, chapters "RV32I" and "C".

/// Opcodes, the lowest seven bits.
pub(super) const LOAD: u32 = 0x03;
pub(super) const OP_IMM: u32 = 0x13;
pub(super) const AUIPC: u32 = 0x17;
pub(super) const STORE: u32 = 0x23;
pub(super) const BRANCH: u32 = 0x63;
pub(super) const LUI: u32 = 0x37;
pub(super) const JALR: u32 = 0x67;
pub(super) const JAL: u32 = 0x6F;

pub(super) const fn rd(instruction: u32) -> usize {
    (instruction >> 7) as usize & 31
}

/// The register that an instruction writes, 0 for none, 1 (the return address) for calls.
pub(super) const fn written(instruction: u32) -> usize {
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

pub(super) const fn rs1(instruction: u32) -> usize {
    (instruction >> 15) as usize & 31
}

/// Whether an instruction has the lower bits of an address, as a distance from a register: ADDI, loads, stores.
pub(super) const fn uses_low(instruction: u32) -> bool {
    match instruction & 0x7F {
        OP_IMM => instruction & 0x7000 == 0,
        LOAD | STORE => true,
        _ => false,
    }
}

/// The lower bits of such an instruction.
pub(super) const fn low(instruction: u32) -> i32 {
    let signed = instruction.cast_signed();
    match instruction & 0x7F {
        STORE => (signed >> 25) << 5 | (instruction >> 7 & 31).cast_signed(),
        _ => signed >> 20,
    }
}

/// The same instruction with other lower bits.
pub(super) const fn with_low(instruction: u32, low: u32) -> u32 {
    match instruction & 0x7F {
        STORE => instruction & 0x01FF_F07F | (low >> 5 & 0x7F) << 25 | (low & 31) << 7,
        _ => instruction & 0xF_FFFF | low << 20,
    }
}

/// The upper bits of an address, for lower ones that are signed.
pub(super) const fn upper(address: u32) -> u32 {
    address.wrapping_add(0x800) & 0xFFFF_F000
}

/// The address nearest to the expected one that has an instruction's lower bits.
pub(in crate::predict) fn complete(instruction: u32, expected: u32) -> u32 {
    let away = low(instruction).cast_unsigned().wrapping_sub(expected) & 0xFFF;
    expected.wrapping_add(away).wrapping_sub(if away > 0x800 { 0x1000 } else { 0 })
}

/// Returns the target of AUIPC at this address and the instruction after it.
pub(in crate::predict) const fn pair_target(auipc: u32, second: u32, at: u32) -> u32 {
    at.wrapping_add(auipc & 0xFFFF_F000).wrapping_add_signed(low(second))
}

/// Decodes the distance of JAL.
pub(super) const fn jump_distance(instruction: u32) -> i32 {
    let bits = (instruction >> 31 & 1) << 20
        | (instruction >> 12 & 0xFF) << 12
        | (instruction >> 20 & 1) << 11
        | (instruction >> 21 & 0x3FF) << 1;
    (bits << 11).cast_signed() >> 11
}

/// JAL with another distance.
pub(super) const fn with_jump_distance(instruction: u32, distance: u32) -> u32 {
    instruction & 0xFFF
        | (distance >> 20 & 1) << 31
        | (distance >> 1 & 0x3FF) << 21
        | (distance >> 11 & 1) << 20
        | (distance >> 12 & 0xFF) << 12
}
