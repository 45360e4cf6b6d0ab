//! Presets of TLS, and what a chip and this machine need for them.

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::chips::Chip;
use crate::mbedtls;

/// TLS of a firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    /// For a server of your own: EC keys, and TLS records of 4 KiB at most
    OwnServer,
    /// For any server: RSA and P-384 too, and records of 16 KiB
    AnyServer,
    /// For any server, with nothing to compile; dates in certificates are not checked
    Prebuilt,
}

impl Tls {
    /// Name on the command line, and to `check-credentials`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OwnServer => "own-server",
            Self::AnyServer => "any-server",
            Self::Prebuilt => "prebuilt",
        }
    }

    /// Feature of the firmware.
    pub(super) fn feature(self) -> &'static str {
        match self {
            Self::OwnServer => "tls",
            Self::AnyServer => "tls-any-server",
            Self::Prebuilt => "tls-prebuilt",
        }
    }

    /// Says what is missing for it.
    pub(super) fn check(self, chip: Chip) -> Result<()> {
        const INSTEAD: &str = "--tls prebuilt needs neither, and checks no dates in certificates";
        if matches!(chip, Chip::Esp32 | Chip::Esp32s2) {
            bail!(
                "{} has no memory for TLS beside its radio (docs/firmware.md, Size): build it without --tls, and have its \
                 updates signed",
                chip.name()
            );
        }
        if self == Self::Prebuilt {
            println!(
                "TLS is a prebuilt Mbed TLS: dates in certificates are not checked, a handshake is one step, and there is \
                 room for one session: for the broker, or for downloads"
            );
            return Ok(());
        }
        if chip.is_xtensa() {
            bail!("Mbed TLS cannot be compiled for {}, which has an Xtensa core; {INSTEAD}", chip.name());
        }
        match mbedtls::remedy() {
            Some(remedy) => bail!("{remedy}; {INSTEAD}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for tls in Tls::value_variants() {
            let value = tls.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(value.as_deref(), Some(tls.name()));
        }
    }

    #[test]
    fn mbed_tls_is_not_compiled_for_xtensa() {
        let said = Tls::OwnServer.check(Chip::Esp32s3).unwrap_err().to_string();
        assert!(said.contains("Xtensa") && said.contains("--tls prebuilt"), "{said}");
        Tls::Prebuilt.check(Chip::Esp32s3).unwrap();
    }

    #[test]
    fn chips_without_memory_for_it_are_refused() {
        for chip in [Chip::Esp32, Chip::Esp32s2] {
            let said = Tls::Prebuilt.check(chip).unwrap_err().to_string();
            assert!(said.contains(chip.name()) && said.contains("no memory for TLS"), "{said}");
        }
    }
}
