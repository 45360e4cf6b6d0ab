//! Typed reasons of failures, with their numbers and their names.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$meta:meta])+ $name:ident = $number:literal $text:literal,)+) => {
        /// The typed reason of a failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Code { $($(#[$meta])+ $name,)+ }

        impl Code {
            /// The name in reports.
            pub const fn as_str(self) -> &'static str {
                // An array stays in flash. What a `match` is compiled to, esp-hal puts into RAM.
                const NAMES: &[&str] = &[$($text),+];
                NAMES[self as usize]
            }

            /// A number that never changes its meaning, for storage.
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)+ }
            }

            /// The code with this number.
            pub const fn from_number(number: u8) -> Self {
                match number { $($number => Self::$name,)+ _ => Self::Unknown }
            }
        }
    };
}

codes! {
    /// The command cannot be read.
    BadCommand = 1 "bad_command",
    /// The URL's scheme is not supported.
    UnsupportedUrl = 2 "unsupported_url",
    /// The image is for another chip.
    WrongChip = 3 "wrong_chip",
    /// The firmware is another product's.
    WrongProduct = 4 "wrong_product",
    /// The image does not fit the slot.
    TooLarge = 5 "too_large",
    /// The bytes that arrived are not firmware.
    NotAnImage = 6 "not_an_image",
    /// The image was rolled back before.
    FailedBefore = 7 "failed_before",
    /// The device takes signed firmware only.
    Unsigned = 8 "unsigned",
    /// The server's name was not found.
    Dns = 9 "dns",
    /// The server did not accept a connection.
    Connect = 10 "connect",
    /// The server did not answer in time.
    Timeout = 11 "timeout",
    /// The server answered with an error.
    HttpStatus = 12 "http_status",
    /// The server redirects without end.
    TooManyRedirects = 13 "too_many_redirects",
    /// The server or a proxy compressed the body although asked not to.
    Compressed = 14 "compressed",
    // 15 was `length_mismatch`, which is `truncated` now; do not give the number away again.
    /// The file at the URL changed during the download.
    ContentChanged = 16 "content_changed",
    /// The body stopped arriving.
    Stalled = 17 "stalled",
    /// The body ended early.
    Truncated = 18 "truncated",
    /// The server's answer breaks HTTP.
    BadResponse = 19 "bad_response",
    /// The image is not the one that was offered.
    DigestMismatch = 20 "digest_mismatch",
    /// The image's checksum or hash is wrong.
    ImageCorrupt = 21 "image_corrupt",
    /// The flash failed.
    Flash = 22 "flash",
    // 23 was `no_slot`, without which an agent does not start; do not give the number away again.
    /// Power was lost too often.
    Interrupted = 24 "interrupted",
    /// The new image panicked.
    Panic = 25 "panic",
    /// The new image hung.
    Watchdog = 26 "watchdog",
    /// The new image failed its health check.
    Unhealthy = 27 "unhealthy",
    /// The new image did not reach the broker.
    Unreachable = 28 "unreachable",
    /// The new image used up its trial boots.
    TrialBoots = 29 "trial_boots",
    // 30 was `brownout`, which is `power_loss` now; do not give the number away again.
    /// The bootloader found the new image bad.
    BootloaderRejected = 31 "bootloader_rejected",
    /// Power was lost.
    PowerLoss = 32 "power_loss",
    /// The release is signed with a key the device does not trust.
    UnknownKey = 33 "unknown_key",
    /// The release is signed with a key that was revoked.
    RevokedKey = 34 "revoked_key",
    /// The signature is wrong.
    BadSignature = 35 "bad_signature",
    /// The release file is broken.
    BadRelease = 36 "bad_release",
    /// The release is older than one the device has had.
    Downgrade = 37 "downgrade",
    /// The release needs a newer version to be running first.
    BaseTooOld = 38 "base_too_old",
    /// The image's secure version is below the running one's.
    SecureVersion = 39 "secure_version",
    /// A block is not what the release says.
    BlockCorrupt = 40 "block_corrupt",
    // 41 was `replayed`, of signed commands; do not give the number away again.
    /// The image is for other revisions of the chip.
    WrongRevision = 42 "wrong_revision",
    /// The image is for a larger flash chip.
    FlashTooSmall = 43 "flash_too_small",
    /// The update crashed the running image again and again.
    Crashed = 44 "crashed",
    /// The URL, or a redirect, leads to a host that is not on the device's list.
    HostNotAllowed = 45 "host_not_allowed",
    /// A whole flash image, where an application is wanted.
    MergedImage = 46 "merged_image",
    /// The image does not say which product it is for, or the device does not know its own.
    NoProduct = 47 "no_product",
    /// The release revokes more keys than the device has room for.
    NoRoom = 48 "no_room",
    /// Anything else, and what a newer device tells that this program does not know.
    #[serde(other)]
    Unknown = 255 "unknown",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
