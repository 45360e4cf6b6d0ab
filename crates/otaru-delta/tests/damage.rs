//! Damaged patches, and patches on other old images: an error or an end, and never more than the header says.

mod support;

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use otaru_delta::{
    ApplyError, DeltaError, Header, HeaderError, Host, PatchError, Workspace, apply, apply_to_slice, encode,
};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use support::Program;

/// A host that checks what the decoder asks of it, and gives the patch in small pieces.
struct Strict<'a> {
    old: &'a [u8],
    patch: &'a [u8],
    new: Vec<u8>,
    header: Option<Header>,
    /// Number of bytes that were read at random places.
    read: Cell<u64>,
}

impl Strict<'_> {
    fn header(&self) -> Header {
        self.header.expect("nothing is asked for before the header is good")
    }
}

impl Host for Strict<'_> {
    type Error = &'static str;

    async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        assert!(!buf.is_empty());
        let count = buf.len().min(self.patch.len()).min(7);
        let (now, later) = self.patch.split_at(count);
        buf[..count].copy_from_slice(now);
        self.patch = later;
        Ok(count)
    }

    async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Self::Error> {
        assert!(offset.is_multiple_of(256) && buf.len() <= 1280);
        let end = offset as usize + buf.len();
        assert!(end <= self.header().old_len as usize);
        buf.copy_from_slice(self.old.get(offset as usize..end).ok_or("the old image is shorter")?);
        self.read.set(self.read.get() + buf.len() as u64);
        Ok(())
    }

    async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), Self::Error> {
        assert!(offset.is_multiple_of(256) && buf.len() <= 1280);
        buf.copy_from_slice(&self.new[offset as usize..offset as usize + buf.len()]);
        self.read.set(self.read.get() + buf.len() as u64);
        Ok(())
    }

    async fn write_new(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        assert!((1..=1024).contains(&bytes.len()));
        assert!(self.new.len().is_multiple_of(1024), "only the last piece is shorter");
        self.new.extend(bytes);
        assert!(self.new.len() <= self.header().new_len as usize, "more than the header says");
        Ok(())
    }
}

/// Applies a patch; returns the outcome, and the bytes that were written.
fn try_patch(
    old: &[u8],
    patch: &[u8],
    workspace: &mut Workspace,
) -> (Result<Header, DeltaError<&'static str>>, Vec<u8>) {
    let seen = Cell::new(None);
    // A first look at the header, for the host to check against.
    let header = patch.first_chunk().and_then(|bytes| Header::parse(bytes).ok());
    let mut host = Strict { old, patch, new: Vec::new(), header, read: Cell::new(0) };
    let result = {
        let mut future = pin!(apply(&mut host, workspace, |header| {
            seen.set(Some(*header));
            if header.new_len > 1 << 20 { Err("too long") } else { Ok(()) }
        }));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("the host never waits"),
        }
    };
    assert_eq!(seen.get(), header, "admit sees every good header");
    if let Ok(header) = result {
        assert_eq!(host.new.len(), header.new_len as usize);
    }
    // A literal is looked for in 512 words at most, a line of cache or two more each.
    assert!(host.read.get() < 4096 * (host.new.len() as u64 + 4096), "{} bytes read", host.read.get());
    (result, host.new)
}

fn programs() -> Vec<(Vec<u8>, Vec<u8>)> {
    [(9, (0x3C00_0020, 0x4200_0020)), (5, (0x3C00_0020, 0x4200_0020)), (13, (0x4200_0020, 0x4201_0020))]
        .map(|(chip, places)| {
            let mut program = Program::new(chip, places, 60, 3);
            let old = program.link();
            program.functions[7] ^= 1;
            program.functions.swap(20, 40);
            (old, program.link())
        })
        .to_vec()
}

#[test]
fn all_memory_is_less_than_48_kib() {
    let mut workspace = Box::new(Workspace::new());
    let mut host = Strict { old: &[], patch: &[], new: Vec::new(), header: None, read: Cell::new(0) };
    let future = apply(&mut host, &mut workspace, |_| Ok(()));
    assert!(size_of::<Workspace>() + size_of_val(&future) <= 48 * 1024);
}

#[test]
fn whole_patches_are_applied_in_pieces_and_again() {
    let mut workspace = Box::new(Workspace::new());
    for (old, new) in programs() {
        let patch = encode(&old, &new).unwrap();
        for _ in 0..2 {
            let (result, made) = try_patch(&old, &patch, &mut workspace);
            assert!(result.is_ok());
            assert!(made == new);
        }
    }
}

#[test]
fn a_flipped_bit_is_harmless() {
    let mut workspace = Box::new(Workspace::new());
    for (old, new) in programs() {
        let patch = encode(&old, &new).unwrap();
        for bit in 0..patch.len() * 8 {
            let mut patch = patch.clone();
            patch[bit / 8] ^= 1 << (bit % 8);
            let (result, made) = try_patch(&old, &patch, &mut workspace);
            // The checksums of the header are not the decoder's business.
            let is_checksum = (16..24).contains(&(bit / 8));
            assert!(
                is_checksum
                    || result.is_err()
                    || made != new
                    || apply_to_slice(&old, &patch, 1 << 20).is_ok()
            );
            if let Ok(made) = apply_to_slice(&old, &patch, 1 << 20) {
                assert!(made == new, "bit {bit} made a difference and went unnoticed");
            }
        }
    }
}

#[test]
fn noise_is_harmless() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut workspace = Box::new(Workspace::new());
    for (old, new) in programs() {
        let patch = encode(&old, &new).unwrap();
        for _ in 0..2000 {
            let mut patch = patch.clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(4..patch.len());
                patch[at] = random.random();
            }
            patch.truncate(random.random_range(0..patch.len() * 4).min(patch.len()));
            let _ = try_patch(&old, &patch, &mut workspace);
        }
    }
}

#[test]
fn other_old_images_are_harmless() {
    let mut random = SmallRng::seed_from_u64(2);
    let mut workspace = Box::new(Workspace::new());
    for (old, new) in programs() {
        let patch = encode(&old, &new).unwrap();
        for round in 0..500 {
            let mut other = old.clone();
            for _ in 0..random.random_range(1..50) {
                // Now and then in the segments' headers.
                let at = random.random_range(0..if round % 2 == 0 { 64 } else { other.len() });
                other[at] = random.random();
            }
            let (result, made) = try_patch(&other, &patch, &mut workspace);
            assert!(other == old || result.is_err() || made.len() == new.len());
            if other != old {
                assert_eq!(apply_to_slice(&other, &patch, 1 << 20), Err(ApplyError::WrongBase));
            }
        }
        assert_eq!(
            try_patch(&[0; 64], &patch, &mut workspace).0.err(),
            Some(DeltaError::Host("the old image is shorter"))
        );
    }
}

#[test]
fn cut_and_lengthened_patches_are_told() {
    let mut workspace = Box::new(Workspace::new());
    for (old, new) in programs() {
        let mut patch = encode(&old, &new).unwrap();
        for len in 0..patch.len() {
            let (result, _) = try_patch(&old, &patch[..len], &mut workspace);
            assert_eq!(result.err(), Some(DeltaError::Patch(PatchError::Truncated)), "{len} bytes");
        }
        patch.push(0);
        let (result, _) = try_patch(&old, &patch, &mut workspace);
        assert!(matches!(result, Err(DeltaError::Patch(PatchError::Trailing))), "{result:?}");
    }
}

#[test]
fn headers_that_ask_for_too_much_are_refused() {
    let (old, new) = &programs()[0];
    let patch = encode(old, new).unwrap();
    let header = |at: usize, byte: u8| {
        let mut bytes: [u8; Header::LEN] = *patch.first_chunk().unwrap();
        bytes[at] = byte;
        Header::parse(&bytes)
    };
    assert_eq!(header(0, 0), Err(HeaderError::NotAPatch));
    assert_eq!(header(3, 9), Err(HeaderError::Version(9)));
    assert_eq!(header(4, 99), Err(HeaderError::Chip(99)));
    assert_eq!(header(5, 93), Err(HeaderError::Properties(93)));
    assert_eq!(header(7, 0xFF), Err(HeaderError::Counts));
    assert_eq!(header(11, 0xFF), Err(HeaderError::Lengths));
    assert_eq!(header(15, 0xFF), Err(HeaderError::Lengths));
    assert_eq!(apply_to_slice(old, &patch, 100), Err(ApplyError::TooLong(new.len() as u32)));
}
