//! From the patch and the old image to the new one.

use otaru_format::image::SEGMENT_HEADER_LEN;
use otaru_lzma::{Decoder, Length};

use crate::anchors::{Anchor, Anchors};
use crate::chips::memory_map;
use crate::error::{DeltaError, HeaderError, PatchError};
use crate::header::Header;
use crate::host::Host;
use crate::images::Images;
use crate::input::Input;
use crate::predict::{LONGEST, Predictor};
use crate::segments::{Contents, Segment, Segments};
use crate::workspace::Workspace;

/// Applies a patch, and returns its header.
///
/// `admit` sees the header first and may refuse it by returning an error: by the lengths in it, for instance. No
/// more than [`Header::new_len`] bytes are written, and exactly so many if there is no error. Whether they are right
/// is for the caller to check: a patch that is applied to another image than it was made for gives something else.
///
/// The future may be dropped at any time; then the patch must be applied again from its start.
///
/// # Errors
/// Returns [`DeltaError::Patch`] if the patch is damaged or was made for another image, and [`DeltaError::Host`] with the
/// error of `admit` or of the host.
pub async fn apply<H: Host>(
    host: &mut H,
    workspace: &mut Workspace,
    admit: impl FnOnce(&Header) -> Result<(), H::Error>,
) -> Result<Header, DeltaError<H::Error>> {
    let header = read_header(host).await?;
    admit(&header).map_err(DeltaError::Host)?;
    let Workspace { lzma, input, images, old, new, anchors, by_old, memory } = workspace;
    let decoder =
        Decoder::with_properties(header.properties, lzma, Length::Marked).map_err(PatchError::Stream)?;
    let mut input = Input::new(decoder, input);
    let mut images = Images::new(host, images, header.old_len);

    (*old, *new) = (Segments::EMPTY, Segments::EMPTY);
    if header.chip.is_some() {
        read_old_segments(&mut images, &mut input, &header, old).await?;
        read_new_segments(&mut images, &mut input, &header, old, new).await?;
    }
    let anchors = &mut anchors[..usize::from(header.anchors)];
    read_anchors(&mut images, &mut input, &header, anchors).await?;
    let anchors = &*anchors;
    let places = Anchors::new(anchors, &mut by_old[..anchors.len()]);
    memory.clear();
    let predictor = match header.chip {
        Some(chip) => {
            let map = memory_map(chip).ok_or(PatchError::Header(HeaderError::Chip(chip.id() as u8)))?;
            Some(Predictor::new(map, old, new, places, memory))
        }
        None => None,
    };

    let mut maker = Maker { images, input, predictor, header, at: 0 };
    maker.fill_up_to(anchors.first().map_or(header.new_len, |first| first.new)).await?;
    for (index, anchor) in anchors.iter().enumerate() {
        let end = anchors.get(index + 1).map_or(header.new_len, |next| next.new);
        maker.at = anchor.old;
        maker.copy_within(end).await?;
        maker.fill_up_to(end).await?;
    }
    maker.images.flush().await?;
    maker.input.finish(maker.images.host).await?;
    Ok(header)
}

async fn read_header<H: Host>(host: &mut H) -> Result<Header, DeltaError<H::Error>> {
    let mut bytes = [0; Header::LEN];
    let mut have = 0;
    while have < bytes.len() {
        match host.read_patch(&mut bytes[have..]).await.map_err(DeltaError::Host)? {
            0 => return Err(PatchError::Truncated.into()),
            count => have = bytes.len().min(have + count),
        }
    }
    Ok(Header::parse(&bytes).map_err(PatchError::Header)?)
}

/// Reads the old image's segments out of it, and from the patch what they hold: how many there are, and for each a
/// byte that is 1 for code.
async fn read_old_segments<H: Host>(
    images: &mut Images<'_, '_, H>,
    input: &mut Input<'_>,
    header: &Header,
    segments: &mut Segments,
) -> Result<(), DeltaError<H::Error>> {
    let head = *images.window(0).await?;
    let count = Segments::count([head[0], head[1]]).ok_or(PatchError::WrongBase)?;
    if input.byte(images.host).await? != count {
        return Err(PatchError::WrongBase.into());
    }
    let mut offset = Segments::FIRST;
    for _ in 0..count {
        let [a, b, c, d, e, f, g, h, ..] = *images.window(offset).await?;
        let (address, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let data = offset.saturating_add(SEGMENT_HEADER_LEN as u32);
        let mut segment = Segment::new(address, data, len, header.old_len).ok_or(PatchError::WrongBase)?;
        segment.contents = match input.byte(images.host).await? {
            0 => Contents::Data,
            1 => Contents::Code,
            _ => return Err(PatchError::Number.into()),
        };
        offset = data + len;
        segments.push(segment).ok_or(PatchError::WrongBase)?;
    }
    Ok(())
}

/// Reads the new image's segments: how many, and for each how much its address and its length differ from those of
/// the old image's segment of the same number, or from zero.
async fn read_new_segments<H: Host>(
    images: &mut Images<'_, '_, H>,
    input: &mut Input<'_>,
    header: &Header,
    old: &Segments,
    new: &mut Segments,
) -> Result<(), DeltaError<H::Error>> {
    let mut offset = Segments::FIRST_DATA;
    for index in 0..input.byte(images.host).await? {
        let (address, len) = match old.as_slice().get(usize::from(index)) {
            Some(old) => (old.address, old.len),
            None => (0, 0),
        };
        let address = address.wrapping_add_signed(input.signed(images.host).await?);
        let len = len.wrapping_add_signed(input.signed(images.host).await?);
        let segment = Segment::new(address, offset, len, header.new_len).ok_or(PatchError::Number)?;
        offset = segment.next_offset();
        new.push(segment).ok_or(PatchError::Number)?;
    }
    Ok(())
}

/// Reads the anchors: for each how far it is from the last one in the new image, and how much farther in the old one.
async fn read_anchors<H: Host>(
    images: &mut Images<'_, '_, H>,
    input: &mut Input<'_>,
    header: &Header,
    anchors: &mut [Anchor],
) -> Result<(), DeltaError<H::Error>> {
    let mut last = Anchor::ZERO;
    for anchor in anchors {
        let step = input.number(images.host).await?;
        let new =
            last.new.checked_add(step).filter(|new| *new <= header.new_len).ok_or(PatchError::Number)?;
        let old = last.old.wrapping_add(step).wrapping_add_signed(input.signed(images.host).await?);
        if old > header.old_len {
            return Err(PatchError::Reference.into());
        }
        *anchor = Anchor { old, new };
        last = *anchor;
    }
    Ok(())
}

/// Makes the new image.
struct Maker<'w, 'h, H> {
    images: Images<'w, 'h, H>,
    input: Input<'w>,
    predictor: Option<Predictor<'w>>,
    header: Header,
    /// Offset in the old image at which the last copy ended, or the next one begins.
    at: u32,
}

impl<H: Host> Maker<'_, '_, H> {
    /// Bytes that are brought along, and copies in turn, up to this offset.
    async fn fill_up_to(&mut self, end: u32) -> Result<(), DeltaError<H::Error>> {
        while self.images.made() < end {
            let left = end - self.images.made();
            let (extra, then_copy) = match self.input.number(self.images.host).await? {
                0 => (left, false),
                more => (more - 1, true),
            };
            // A copy is never empty, or this might go on for ever.
            if extra > left || (then_copy && extra == left) {
                return Err(PatchError::Number.into());
            }
            for _ in 0..extra {
                let byte = self.input.byte(self.images.host).await?;
                self.images.put(byte).await?;
            }
            if then_copy {
                let seek = self.input.signed(self.images.host).await?;
                self.at = self.at.wrapping_add(extra).wrapping_add_signed(seek);
                let before = self.images.made();
                self.copy_within(end).await?;
                if self.images.made() == before {
                    return Err(PatchError::Number.into());
                }
            }
        }
        Ok(())
    }

    /// A copy of bytes from where the decoder is in the old image, not beyond this offset of the new one.
    async fn copy_within(&mut self, end: u32) -> Result<(), DeltaError<H::Error>> {
        let len = self.input.number(self.images.host).await?;
        if len > end.saturating_sub(self.images.made()) {
            return Err(PatchError::Number.into());
        }
        let to =
            self.at.checked_add(len).filter(|to| *to <= self.header.old_len).ok_or(PatchError::Reference)?;
        if let Some(predictor) = &mut self.predictor {
            predictor.jump();
        }
        while self.at < to {
            self.copy_some(to - self.at).await?;
        }
        Ok(())
    }

    /// Copies bytes that are predicted as one, or a byte.
    async fn copy_some(&mut self, left: u32) -> Result<(), DeltaError<H::Error>> {
        let window = *self.images.window(self.at).await?;
        let made = self.images.made();
        if let Some(predictor) = &mut self.predictor
            && let Some(predicted) =
                predictor.predict(&mut self.images, (self.at, made, left), &window).await?
        {
            let mut actual = [0; LONGEST];
            for (actual, expected) in actual.iter_mut().zip(&predicted.bytes[..predicted.len]) {
                *actual = expected.wrapping_add(self.input.byte(self.images.host).await?);
                self.images.put(*actual).await?;
            }
            predictor.learn(&predicted, &actual);
            self.at += predicted.len as u32;
            return Ok(());
        }
        let difference = self.input.byte(self.images.host).await?;
        self.images.put(window[0].wrapping_add(difference)).await?;
        self.at += 1;
        Ok(())
    }
}
