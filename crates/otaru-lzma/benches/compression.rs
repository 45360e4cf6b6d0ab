//! Compressors beside each other, for the room they take on a chip: ratio, RAM and speed of each, over real firmware.
//!
//! Firmware is cut into blocks of 64 KiB, each of which is compressed alone, as in a release; a block that does
//! not become smaller is stored. `OTARU_FIRMWARE_PAIRS` names a folder of folders with `.bin` files.
#![expect(clippy::unwrap_used, reason = "what cannot be measured has failed")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heatshrink::Config;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use otaru_lzma::{Decoder, Workspace};

const BLOCK: usize = 64 * 1024;
/// The window of DEFLATE.
const DEFLATE_WINDOW: usize = 32 * 1024;

/// A compressor and its decoder.
struct Candidate {
    name: &'static str,
    compress: fn(&[u8]) -> Vec<u8>,
    /// Decodes a frame; the buffer has room for a block and a byte.
    decode: fn(&[u8], &mut [u8]),
    /// RAM that decoding needs while frames arrive in pieces and blocks leave in pieces.
    ram: usize,
    note: &'static str,
}

fn candidates() -> [Candidate; 5] {
    [
        Candidate {
            name: "LZMA, this crate",
            compress: otaru_lzma::encode,
            decode: lzma,
            ram: size_of::<Workspace>() + size_of::<Decoder<'_>>(),
            note: "window 16 KiB and statistics",
        },
        Candidate {
            name: "DEFLATE, miniz_oxide",
            compress: |block| miniz_oxide::deflate::compress_to_vec(block, 10),
            decode: deflate,
            ram: DEFLATE_WINDOW + size_of::<DecompressorOxide>(),
            note: "window 32 KiB and tables",
        },
        Candidate {
            name: "heatshrink 11,4",
            compress: |block| shrink(block, 11, 4),
            decode: |frame, out| unshrink(frame, out, 11, 4),
            ram: (1 << 11) + 64,
            note: "window; a streaming decoder's, the crate's takes whole frames",
        },
        Candidate {
            name: "heatshrink 8,7",
            compress: |block| shrink(block, 8, 7),
            decode: |frame, out| unshrink(frame, out, 8, 7),
            ram: (1 << 8) + 64,
            note: "as above",
        },
        Candidate {
            name: "LZ4, lz4_flex",
            compress: lz4_flex::block::compress,
            decode: |frame, out| {
                lz4_flex::block::decompress_into(frame, out).unwrap();
            },
            ram: BLOCK,
            note: "the block; and the frame, which the crate takes whole",
        },
    ]
}

fn lzma(frame: &[u8], out: &mut [u8]) {
    thread_local!(static WORKSPACE: std::cell::RefCell<Workspace> = const { std::cell::RefCell::new(Workspace::new()) });
    WORKSPACE.with_borrow_mut(|workspace| {
        let len = out.len() - 1;
        let mut decoder = Decoder::new(workspace, len as u32);
        let (mut rest, mut at) = (frame, 0);
        while !decoder.is_complete() {
            let step = decoder.decode(rest).unwrap();
            assert!(step.consumed > 0 || !step.output.is_empty());
            out[at..at + step.output.len()].copy_from_slice(step.output);
            (rest, at) = (&rest[step.consumed..], at + step.output.len());
        }
    });
}

fn deflate(frame: &[u8], out: &mut [u8]) {
    let mut decoder = DecompressorOxide::new();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, ..) = decompress(&mut decoder, frame, out, 0, flags);
    assert_eq!(status, miniz_oxide::inflate::TINFLStatus::Done);
}

fn shrink(block: &[u8], window: u8, lookahead: u8) -> Vec<u8> {
    let mut out = vec![0; block.len() * 9 / 8 + 8];
    let config = Config::new(window, lookahead).unwrap();
    heatshrink::encode(block, &mut out, &config).unwrap().to_vec()
}

fn unshrink(frame: &[u8], out: &mut [u8], window: u8, lookahead: u8) {
    heatshrink::decode(frame, out, &Config::new(window, lookahead).unwrap()).unwrap();
}

/// Totals over all firmware.
struct Figures {
    /// Geometric mean over the files.
    ratio: f64,
    worst: f64,
    /// Decoded bytes a second, over all frames, in the fastest of three runs.
    speed: f64,
}

fn measure(candidate: &Candidate, firmware: &[Vec<u8>]) -> Figures {
    let mut ratios = Vec::new();
    let mut frames = Vec::new();
    for image in firmware {
        let mut size = 0;
        for block in image.chunks(BLOCK) {
            let frame = (candidate.compress)(block);
            size += frame.len().min(block.len());
            if frame.len() < block.len() {
                frames.push((frame, block));
            }
        }
        ratios.push(size as f64 / image.len() as f64);
    }
    let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
    Figures {
        ratio: mean.exp(),
        worst: ratios.iter().copied().fold(0.0, f64::max),
        speed: (0..3).map(|_| decode_all(candidate, &frames)).fold(0.0, f64::max),
    }
}

/// Decodes and compares, over and over for a while; comparing costs next to nothing.
fn decode_all(candidate: &Candidate, frames: &[(Vec<u8>, &[u8])]) -> f64 {
    const LONG_ENOUGH: Duration = Duration::from_millis(500);
    let mut out = vec![0; BLOCK + 1];
    let (mut bytes, started, start) = (0, Instant::now(), busy());
    loop {
        for (frame, block) in frames {
            (candidate.decode)(frame, &mut out[..=block.len()]);
            assert!(out[..block.len()] == **block, "{} does not lead back", candidate.name);
            bytes += block.len();
        }
        let time = start.zip(busy()).map_or(started.elapsed(), |(start, end)| end - start);
        if time >= LONG_ENOUGH {
            return bytes as f64 / time.as_secs_f64();
        }
    }
}

/// Time for which this thread has been running, where Linux tells it: other programs' time is none of ours.
fn busy() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn firmware() -> Vec<Vec<u8>> {
    let Some(folder) = env::var_os("OTARU_FIRMWARE_PAIRS") else {
        return Vec::new();
    };
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    let files = entries(Path::new(&folder)).into_iter().flat_map(|folder| entries(&folder));
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ext| ext == "bin")).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn main() {
    let firmware = firmware();
    if firmware.is_empty() {
        eprintln!(
            "no firmware to compress: name a folder of folders with .bin files, by --pairs or OTARU_FIRMWARE_PAIRS"
        );
        std::process::exit(1);
    }
    let total: usize = firmware.iter().map(Vec::len).sum();
    println!("{} files, {:.1} MB, in frames of 64 KiB\n", firmware.len(), total as f64 / 1e6);
    println!("| compressor | size / raw | worst file | decoder's RAM | of what | decoded on this host |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for candidate in candidates() {
        let Figures { ratio, worst, speed } = measure(&candidate, &firmware);
        println!(
            "| {} | {ratio:.3} | {worst:.3} | {} | {} | {:.0} MB/s |",
            candidate.name,
            candidate.ram,
            candidate.note,
            speed / 1e6
        );
    }
}
