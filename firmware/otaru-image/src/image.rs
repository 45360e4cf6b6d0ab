//! Files to update and to flash, made of a program as espflash makes them.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use espflash::flasher::{FlashData, FlashSettings, FlashSize};
use espflash::image_format::idf::IdfBootloaderFormat;
use espflash::target::Chip;

/// A firmware's files.
pub(crate) struct Image {
    /// The app alone: what an update brings.
    pub(crate) app: Vec<u8>,
    /// Bootloader, partition table and app at their places, filled up to the flash's size.
    whole: Vec<u8>,
}

impl Image {
    /// Makes the images of a program.
    pub(crate) fn read(chip: &str, size: &str, table: &Path, elf: &Path) -> Result<Self> {
        let chip = Chip::from_str(chip).with_context(|| format!("no chip {chip}"))?;
        let size = match size {
            "4mb" => FlashSize::_4Mb,
            "8mb" => FlashSize::_8Mb,
            "16mb" => FlashSize::_16Mb,
            _ => bail!("no flash size {size}: 4mb, 8mb or 16mb"),
        };
        let program = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let settings = FlashSettings::new(None, Some(size), None);
        let data = FlashData::new(settings, 0, None, chip, chip.default_xtal_frequency());
        let format = IdfBootloaderFormat::new(&program, &data, Some(table), None, None, None)
            .with_context(|| format!("cannot make an image of {}", elf.display()))?;

        let mut parts = format.clone().ota_segments();
        let (Some(app), None) = (parts.next(), parts.next()) else { bail!("the app is not one piece") };
        let app = app.data().to_vec();
        let mut whole = vec![0xFF; usize::try_from(size.size())?];
        for segment in format.flash_segments() {
            let start = usize::try_from(segment.addr)?;
            match whole.get_mut(start..start + segment.data().len()) {
                Some(place) => place.copy_from_slice(segment.data()),
                None => bail!("the firmware does not fit the flash"),
            }
        }
        Ok(Self { app, whole })
    }

    /// Writes both files.
    pub(crate) fn write(&self, app: &Path, flash: &Path) -> Result<()> {
        fs::write(app, &self.app).with_context(|| format!("cannot write {}", app.display()))?;
        fs::write(flash, &self.whole).with_context(|| format!("cannot write {}", flash.display()))
    }
}
