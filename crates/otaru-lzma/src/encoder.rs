//! Making streams, on a host.

use std::io::Write as _;
use std::vec::Vec;

use lzma_rust2::{EncodeMode, LzmaOptions, LzmaWriter, MfType};

use crate::properties::Properties;
use crate::workspace::RELEASE_DICTIONARY;

/// Compresses a block to a frame of a release: a raw stream with `lc = lp = pb = 0` and a dictionary of 16 KiB,
/// without an end marker.
///
/// The same block always gives the same frame. It may be longer than the block, if the block is noise.
pub fn encode(block: &[u8]) -> Vec<u8> {
    encode_stream(block, Properties::RELEASE, RELEASE_DICTIONARY as u32, false)
}

/// Compresses to any raw stream, as small as it gets; `dictionary` is in bytes, and `marked` ends it with a marker.
///
/// # Panics
///
/// If the properties or the dictionary are none that LZMA has.
pub fn encode_stream(bytes: &[u8], properties: Properties, dictionary: u32, marked: bool) -> Vec<u8> {
    let options = LzmaOptions {
        dict_size: dictionary,
        lc: properties.literal_context_bits.into(),
        lp: properties.literal_position_bits.into(),
        pb: properties.position_bits.into(),
        mode: EncodeMode::Normal,
        nice_len: LzmaOptions::NICE_LEN_MAX,
        mf: MfType::Bt4,
        // Enough to look at every place in a small dictionary that matters.
        depth_limit: 1000,
        preset_dict: None,
    };
    let compress = || {
        let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, marked)?;
        writer.write_all(bytes)?;
        writer.finish()
    };
    compress().expect("a Vec takes everything, and the options are valid")
}
