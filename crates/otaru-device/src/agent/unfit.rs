//! Why an image does not fit a device, whoever vouches for it.

use otaru_format::status::Code;

/// Why an image does not fit this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is a whole flash image.
    Merged,
    /// The first bytes are those of no image.
    Broken,
    Chip,
    Revision,
    FlashSize,
    SecureVersion,
    /// It says nothing about itself.
    Nameless,
    Product,
}

impl Unfit {
    /// Returns the code for reports, on a device of this product.
    pub(super) const fn code(self, own: &str) -> Code {
        match self {
            Self::Merged => Code::MergedImage,
            Self::Broken => Code::ImageCorrupt,
            Self::Chip => Code::WrongChip,
            Self::Revision => Code::WrongRevision,
            Self::FlashSize => Code::FlashTooSmall,
            Self::SecureVersion => Code::SecureVersion,
            Self::Product if !own.is_empty() => Code::WrongProduct,
            Self::Product | Self::Nameless => Code::NoProduct,
        }
    }
}
