//! Making frames, on a host.

use std::io::Write as _;
use std::vec::Vec;

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};

use crate::workspace::RELEASE_DICTIONARY;

/// Compresses a block to a frame of a release: a raw stream with `lc = lp = pb = 0` and a dictionary of 16 KiB,
/// without an end marker.
///
/// The same block always gives the same frame. It may be longer than the block, if the block is noise.
pub fn encode(block: &[u8]) -> Vec<u8> {
    let options = LzmaOptions {
        dict_size: RELEASE_DICTIONARY as u32,
        lc: 0,
        lp: 0,
        pb: 0,
        mode: EncodeMode::Normal,
        nice_len: LzmaOptions::NICE_LEN_MAX,
        mf: MfType::Bt4,
        // Enough to look at every place in a dictionary of this size that matters.
        depth_limit: 1000,
        preset_dict: None,
    };
    let compress = || {
        let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, false)?;
        writer.write_all(block)?;
        writer.finish()
    };
    compress().expect("a Vec takes everything, and the options are valid")
}
