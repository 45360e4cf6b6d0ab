//! The main memory of each chip, and who gets how much of it. `otaru-image` reads the same table: `cargo xtask firmware` holds
//! what was linked against it, and `cargo xtask size` prints it.
//!
//! The stack is what is left, so a sum that is too large shows as an overflow in the middle of an update, and only there. For
//! chips whose firmware cannot be linked without Espressif's compiler the sums are checked all the same, when it is compiled.

/// Bytes of stack that are wanted: an update by a patch goes deepest, and 16 KiB are to be left then.
const STACK: u32 = 48 * 1024;
/// Variables besides the heap and what [`Budget::holds`] is told of: the radio's, the network stack's, the tasks. Measured on
/// the C3; no chip's are linked smaller.
const OTHERS: u32 = 51_000;
/// Variables that come with TLS: Mbed TLS's own, one more socket, larger tasks. The heap in the segment is smaller by as much.
pub(crate) const TLS: u32 = 4 * KIB;
/// The same where Mbed TLS is prebuilt, with more algorithms. Measured on the C3.
pub(crate) const PREBUILT_TLS: u32 = 5 * KIB;
/// Bytes of heap that are taken once the radio is on. Measured on an emulated C3.
const RADIO: u32 = 73_512;
const KIB: u32 = 1024;

/// One chip's memory, in bytes.
pub(crate) struct Budget {
    /// The memory that the linker fills, `dram_seg`, `DRAM` or `RAM` of esp-hal's `memory.x`.
    pub(crate) segment: u32,
    /// Code that runs from that memory, above all the radio's; none where code has memory of its own.
    pub(crate) code: u32,
    /// Variables besides the heap.
    pub(crate) variables: u32,
    /// Number of them besides those that [`Budget::holds`] is told of.
    pub(crate) others: u32,
    /// The heap in the segment.
    pub(crate) heap: u32,
    /// The heap in memory behind the segment that only the bootloader used, `dram2_seg`.
    pub(crate) reclaimed: u32,
    /// The stack.
    pub(crate) stack: u32,
}

impl Budget {
    /// Returns whether there is room for these variables beside the others.
    pub(crate) const fn holds(&self, variables: usize) -> bool {
        self.others as usize + variables <= self.variables as usize
    }

    /// Returns what is over, for code that grows.
    pub(crate) const fn spare(&self) -> u32 {
        self.segment - self.code - self.variables - self.heap - self.stack
    }

    /// Returns the heap that sessions of TLS find where the radio is on; none where the segment has nothing to give for the variables of TLS.
    pub(crate) const fn left_for_tls(&self, variables: u32) -> u32 {
        match self.heap.checked_sub(variables) {
            Some(heap) => (heap + self.reclaimed).saturating_sub(RADIO),
            None => 0,
        }
    }
}

/// Code has 128 KiB of its own.
pub(crate) const ESP32: Budget = Budget {
    segment: 192 * KIB,
    code: 0,
    variables: 132 * KIB,
    others: OTHERS,
    heap: 12 * KIB,
    reclaimed: 96 * KIB,
    stack: STACK,
};

/// Two caches of 8 KiB and the vectors are taken off. No room for LZMA's dictionary and patches, and half a receive window.
pub(crate) const ESP32S2: Budget = Budget {
    segment: 183 * KIB - 16 * KIB,
    code: 46 * KIB,
    variables: 78 * KIB,
    others: OTHERS,
    heap: 0,
    reclaimed: 128 * KIB,
    // Without patches nothing goes deeper than a download.
    stack: 40 * KIB,
};

pub(crate) const ESP32S3: Budget = Budget {
    segment: 0x5_3700,
    code: 46 * KIB,
    variables: 132 * KIB,
    others: OTHERS,
    heap: 96 * KIB,
    reclaimed: 64 * KIB,
    stack: STACK,
};

pub(crate) const ESP32C3: Budget = Budget {
    segment: 313 * KIB,
    code: 41 * KIB,
    variables: 132 * KIB,
    others: OTHERS,
    heap: 92 * KIB,
    reclaimed: 64 * KIB,
    stack: STACK,
};

pub(crate) const ESP32C6: Budget = Budget {
    segment: 0x6_E610,
    // More of the radio's code runs from RAM than on the C3.
    code: 62 * KIB,
    variables: 140 * KIB,
    // The radio's too.
    others: 56_500,
    heap: 96 * KIB,
    reclaimed: 64 * KIB,
    stack: STACK,
};

// Subtracting what is not there does not compile.
const _: [u32; 5] = [ESP32.spare(), ESP32S2.spare(), ESP32S3.spare(), ESP32C3.spare(), ESP32C6.spare()];

/// Returns whether there is room for a broker and the handshake of a download, with any server; for one of the two with a prebuilt Mbed TLS.
const fn holds_tls(chip: &Budget) -> bool {
    chip.left_for_tls(TLS) >= 64 * KIB && chip.left_for_tls(PREBUILT_TLS) >= 68 * KIB
}

const _: () = assert!(holds_tls(&ESP32S3) && holds_tls(&ESP32C3) && holds_tls(&ESP32C6));
