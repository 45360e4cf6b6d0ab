//! A patch leads from the old image to the new one, whatever the two are, and is small where they are alike.

mod support;

use otaru_delta::{Header, apply_to_slice, encode};
use proptest::prelude::*;
use support::Program;

/// The chips' ids, and where their data and code may be: those with caches apart, and those with one for both.
const CHIPS: [(u16, (u32, u32)); 9] = [
    (0, (0x3F40_0020, 0x400D_0020)),
    (2, (0x3F00_0020, 0x4008_0020)),
    (9, (0x3C00_0020, 0x4200_0020)),
    (5, (0x3C00_0020, 0x4200_0020)),
    (12, (0x3C00_0020, 0x4200_0020)),
    (13, (0x4200_0020, 0x4201_0020)),
    (16, (0x4200_0020, 0x4201_0020)),
    (18, (0x4000_0020, 0x4001_0020)),
    (23, (0x4200_0020, 0x4201_0020)),
];

/// Makes a patch, applies it, and returns its length.
fn there(old: &[u8], new: &[u8]) -> usize {
    let patch = encode(old, new).expect("the images are short enough");
    let made = apply_to_slice(old, &patch, new.len() as u32).expect("the patch is good");
    assert!(made == new, "what came out differs");
    patch.len()
}

#[test]
fn empty_identical_and_unrelated_images() {
    let noise: Vec<u8> = (0..30_000_u32).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 13) as u8).collect();
    let other: Vec<u8> = noise.iter().rev().map(|byte| byte ^ 0x5A).collect();
    assert!(there(&[], &[]) < 48);
    assert!(there(&noise, &[]) < 48);
    assert!(there(&noise, &noise) < 128);
    assert!(there(&[], &noise) <= noise.len() + noise.len() / 50);
    assert!(there(&noise, &other) <= noise.len() + noise.len() / 50);
    for short in [&b"\xE9"[..], b"\xE9\x01", b"\xE9\x10\x00"] {
        there(short, &noise);
        there(&noise, short);
        there(short, short);
    }
}

#[test]
fn a_function_more_moves_all_addresses_and_costs_little() {
    for (chip, places) in CHIPS {
        let mut program = Program::new(chip, places, 300, chip.into());
        let old = program.link();
        // Targets are chosen by the number of functions, so one replaces another of a different length.
        program.functions[20] ^= 0x5555;
        let new = program.link();
        let differing = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        assert!(differing > 1000, "chip {chip}: addresses moved");
        let len = there(&old, &new);
        assert!(len < 600, "chip {chip}: {len} bytes");
    }
}

#[test]
fn another_chip_and_another_program() {
    let images: Vec<Vec<u8>> =
        CHIPS.iter().map(|(chip, places)| Program::new(*chip, *places, 60, 7).link()).collect();
    for old in &images {
        for new in &images {
            there(old, new);
        }
    }
    let header = |old: &[u8], new: &[u8]| {
        let patch = encode(old, new).unwrap();
        Header::parse(patch.first_chunk().unwrap()).unwrap()
    };
    assert_eq!(header(&images[0], &images[3]).chip, None);
}

/// A change to the list of a program's functions.
#[derive(Debug, Clone)]
enum Change {
    Insert(usize, u64),
    Remove(usize),
    Replace(usize, u64),
    Move(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u64>()).prop_map(|(at, seed)| Change::Insert(at, seed)),
        any::<usize>().prop_map(Change::Remove),
        (any::<usize>(), any::<u64>()).prop_map(|(at, seed)| Change::Replace(at, seed)),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Move(from, to)),
    ]
}

fn make(functions: &mut Vec<u64>, change: &Change) {
    let count = functions.len();
    match *change {
        Change::Insert(at, seed) => functions.insert(at % (count + 1), seed),
        Change::Remove(at) if count > 1 => _ = functions.remove(at % count),
        Change::Remove(_) => {}
        Change::Replace(at, seed) => functions[at % count] = seed,
        Change::Move(from, to) => {
            let function = functions.remove(from % count);
            functions.insert(to % count, function);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changed_programs(chip in 0..CHIPS.len(), seed: u64, changes in prop::collection::vec(change(), 0..12)) {
        let (id, places) = CHIPS[chip];
        let mut program = Program::new(id, places, 80, seed);
        let old = program.link();
        for change in &changes {
            make(&mut program.functions, change);
        }
        let new = program.link();
        there(&old, &new);
        there(&new, &old);
    }

    #[test]
    fn segments_that_move(chip in 0..CHIPS.len(), seed: u64, by in 0_u32..0x40_0000) {
        let (id, (data, code)) = CHIPS[chip];
        let old = Program::new(id, (data, code), 40, seed).link();
        let new = Program::new(id, (data.wrapping_add(by), code.wrapping_sub(by & !3)), 40, seed).link();
        there(&old, &new);
    }

    #[test]
    fn any_bytes(old in prop::collection::vec(0_u8..4, 0..3000), new in prop::collection::vec(0_u8..4, 0..3000)) {
        there(&old, &new);
    }
}
