//! Patches: any patch on any old image comes to an end, and never makes more than its header says.
//!
//! The first byte says whether the patch's stream is compressed already (0) or still to be compressed, which lets the
//! fuzzer change what is in it; the next two are the old image's length, little-endian. The image follows, then the patch.
#![no_main]

use std::io::Write as _;
use std::pin::pin;
use std::task::{Context, Waker};

use libfuzzer_sys::fuzz_target;
use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};
use otaru_delta::{Header, Host, Workspace, apply};

/// The longest new image that is made.
const LONGEST: u32 = 1 << 16;

struct Files<'a> {
    old: &'a [u8],
    patch: &'a [u8],
    new: Vec<u8>,
    limit: usize,
}

impl Host for Files<'_> {
    type Error = ();

    async fn read_patch(&mut self, buf: &mut [u8]) -> Result<usize, ()> {
        let (now, later) = self.patch.split_at(buf.len().min(self.patch.len()));
        buf[..now.len()].copy_from_slice(now);
        self.patch = later;
        Ok(now.len())
    }

    async fn read_old(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), ()> {
        let bytes = self.old.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.expect("nothing is read from beyond the old image"));
        Ok(())
    }

    async fn read_new(&mut self, offset: u32, buf: &mut [u8]) -> Result<(), ()> {
        let bytes = self.new.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(bytes.expect("only what is written is read"));
        Ok(())
    }

    async fn write_new(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.new.extend(bytes);
        assert!(self.new.len() <= self.limit, "more than the header says");
        Ok(())
    }
}

/// A stream as the encoder compresses it.
fn compress(stream: &[u8], properties: u8) -> Vec<u8> {
    let options = LzmaOptions {
        dict_size: 16 * 1024,
        lc: u32::from(properties % 9).min(1),
        lp: u32::from(properties / 9 % 5).min(1 - u32::from(properties % 9).min(1)),
        pb: 0,
        mode: EncodeMode::Fast,
        nice_len: 64,
        mf: MfType::Hc4,
        depth_limit: 4,
        preset_dict: None,
    };
    let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, true).expect("the options are valid");
    writer.write_all(stream).expect("a Vec takes everything");
    writer.finish().expect("a Vec takes everything")
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, low, high], rest)) = bytes.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (old, patch) = rest.split_at(len);
    let mut patch = patch.to_vec();
    let Some(header) = patch.first_chunk::<{ Header::LEN }>() else { return };
    if *kind != 0 {
        let stream = compress(&patch[Header::LEN..], header[5]);
        patch.truncate(Header::LEN);
        patch.extend(stream);
    }
    let mut host = Files { old, patch: &patch, new: Vec::new(), limit: 0 };
    if let Some(Ok(header)) = patch.first_chunk().map(Header::parse) {
        host.limit = header.new_len as usize;
    }
    let mut workspace = Box::new(Workspace::new());
    let fits = |header: &Header| {
        let good = header.new_len <= LONGEST && header.old_len as usize == old.len();
        good.then_some(()).ok_or(())
    };
    let done = pin!(apply(&mut host, &mut workspace, fits)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(done.is_ready());
});
