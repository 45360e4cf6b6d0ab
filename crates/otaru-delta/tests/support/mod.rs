//! Images that look like those of the chips, made up.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// A segment: its address and its bytes.
pub(crate) type Segment = (u32, Vec<u8>);

/// An image of a chip (by its id, `esp_chip_id_t`) with these segments, without checksum and hash.
pub(crate) fn image(chip: u16, segments: &[Segment]) -> Vec<u8> {
    let mut image = vec![0; 24];
    image[0] = 0xE9;
    image[1] = segments.len() as u8;
    image[12..14].copy_from_slice(&chip.to_le_bytes());
    for (address, bytes) in segments {
        image.extend(address.to_le_bytes());
        image.extend((bytes.len() as u32).to_le_bytes());
        image.extend(bytes);
    }
    image.resize(image.len().next_multiple_of(16), 0);
    image
}

/// Layout of a made-up program: functions of a chip's code, and data that points to them.
pub(crate) struct Program {
    chip: u16,
    data: u32,
    code: u32,
    /// For each function a seed, from which its instructions are made.
    pub(crate) functions: Vec<u64>,
}

/// Returns the target of a function's call or pointer, by the function's seed and the number of it.
fn target(seed: u64, number: u64, count: usize) -> usize {
    (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(number as u32 * 7 + 11) % count as u64) as usize
}

impl Program {
    /// A program of so many functions for the chip with this id, whose data and code are at these addresses.
    pub(crate) fn new(chip: u16, (data, code): (u32, u32), functions: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        Self { chip, data, code, functions: (0..functions).map(|_| random.random()).collect() }
    }

    /// Builds the image. Addresses in it are those that its functions have there, so that all of them move if one changes.
    pub(crate) fn link(&self) -> Vec<u8> {
        let riscv = !matches!(self.chip, 0 | 2 | 9);
        let bodies: Vec<Vec<u8>> = self.functions.iter().map(|seed| body(*seed, riscv)).collect();
        let mut starts = Vec::new();
        let mut at = self.code;
        for body in &bodies {
            starts.push(at);
            at += body.len() as u32;
        }
        let mut code: Vec<u8> = bodies.concat();
        let mut data = Vec::new();
        for (index, seed) in self.functions.iter().enumerate() {
            let begin = starts[index];
            for call in 0..4 {
                // Calls refer to functions by what they are, not by their number.
                let wanted = target(self.functions[index], call, self.functions.len());
                let place = begin + 8 + 12 * call as u32;
                let offset = (place - self.code) as usize;
                let bytes = if riscv {
                    jal(starts[wanted].wrapping_sub(place)).to_le_bytes().to_vec()
                } else {
                    call8(place, starts[wanted]).to_le_bytes()[..3].to_vec()
                };
                code[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            data.extend(starts[index].to_le_bytes());
            data.extend((*seed as u32).to_le_bytes());
        }
        image(self.chip, &[(self.data, data), (self.code, code)])
    }
}

/// A function's bytes, without its calls: it begins as functions do, and its length depends on its seed.
fn body(seed: u64, riscv: bool) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bytes = vec![0; 64 + random.random_range(0..40) * 4];
    for place in bytes.chunks_exact_mut(2) {
        // C.MV, C.ADD or narrow instructions: no addresses.
        let bits: u16 = random.random();
        let instruction = if riscv { 0x8002 | bits & 0x1FFC | 0x104 } else { bits & 0xFFF0 | 0x8 };
        place.copy_from_slice(&instruction.to_le_bytes());
    }
    if riscv {
        let end = bytes.len() - 2;
        bytes[end..].copy_from_slice(&0x8082_u16.to_le_bytes());
    } else {
        bytes[..3].copy_from_slice(&[0x36, 0x41, 0x00]);
    }
    bytes
}

/// `jal ra`, RISC-V.
fn jal(distance: u32) -> u32 {
    let bits = distance >> 20 & 1;
    0xEF | bits << 31
        | (distance >> 1 & 0x3FF) << 21
        | (distance >> 11 & 1) << 20
        | (distance >> 12 & 0xFF) << 12
}

/// `call8`, Xtensa.
fn call8(place: u32, to: u32) -> u32 {
    let words = to.wrapping_sub((place & !3).wrapping_add(4)) >> 2;
    0x25 | (words & 0x3_FFFF) << 6
}
