//! The chips, with the ids their images carry.

use core::fmt;
use core::str::FromStr;

/// A chip of the ESP32 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Chip {
    Esp32,
    Esp32S2,
    Esp32C3,
    Esp32S3,
    Esp32C2,
    Esp32C6,
    Esp32H2,
    Esp32P4,
    Esp32C61,
    Esp32C5,
}

impl Chip {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Esp32,
        Self::Esp32S2,
        Self::Esp32C3,
        Self::Esp32S3,
        Self::Esp32C2,
        Self::Esp32C6,
        Self::Esp32H2,
        Self::Esp32P4,
        Self::Esp32C61,
        Self::Esp32C5,
    ];

    /// The id in an image header (`esp_chip_id_t`, ESP-IDF `esp_app_format.h`).
    pub const fn id(self) -> u16 {
        match self {
            Self::Esp32 => 0,
            Self::Esp32S2 => 2,
            Self::Esp32C3 => 5,
            Self::Esp32S3 => 9,
            Self::Esp32C2 => 12,
            Self::Esp32C6 => 13,
            Self::Esp32H2 => 16,
            Self::Esp32P4 => 18,
            Self::Esp32C61 => 20,
            Self::Esp32C5 => 23,
        }
    }

    /// The chip with this id.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|chip| chip.id() == id)
    }

    /// The name tools use, such as `esp32c3`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Esp32 => "esp32",
            Self::Esp32S2 => "esp32s2",
            Self::Esp32C3 => "esp32c3",
            Self::Esp32S3 => "esp32s3",
            Self::Esp32C2 => "esp32c2",
            Self::Esp32C6 => "esp32c6",
            Self::Esp32H2 => "esp32h2",
            Self::Esp32P4 => "esp32p4",
            Self::Esp32C61 => "esp32c61",
            Self::Esp32C5 => "esp32c5",
        }
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No chip has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnknownChip;

impl fmt::Display for UnknownChip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown chip; use one of")?;
        Chip::ALL.iter().try_for_each(|chip| write!(f, " {chip}"))
    }
}

impl core::error::Error for UnknownChip {}

impl FromStr for Chip {
    type Err = UnknownChip;

    fn from_str(text: &str) -> Result<Self, UnknownChip> {
        let same = |name: &str| {
            let letters = text.bytes().filter(|b| *b != b'-').map(|b| b.to_ascii_lowercase());
            letters.eq(name.bytes())
        };
        Self::ALL.into_iter().find(|chip| same(chip.name())).ok_or(UnknownChip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back() {
        for chip in Chip::ALL {
            assert_eq!(Chip::from_id(chip.id()), Some(chip));
            assert_eq!(chip.name().parse(), Ok(chip));
        }
        assert_eq!("ESP32-S3".parse(), Ok(Chip::Esp32S3));
        assert_eq!("esp8266".parse::<Chip>(), Err(UnknownChip));
    }
}
