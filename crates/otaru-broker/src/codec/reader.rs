//! Reads the fields of a packet, each no further than the packet goes.

use super::fault::Fault;

/// Rest of a packet that is still to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Takes so many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a packet identifier, which is never 0.
    pub(crate) fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.u16()? {
            0 => Err(Fault::Protocol),
            id => Ok(id),
        }
    }

    /// Takes a variable byte integer in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return if byte == 0 && place > 0 { Err(Fault::Malformed) } else { Ok(value) };
            }
        }
        Err(Fault::Malformed)
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// Takes a string: UTF-8 without U+0000.
    pub(crate) fn string(&mut self) -> Result<&'a str, Fault> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| Fault::Malformed)?;
        if text.contains('\0') { Err(Fault::Malformed) } else { Ok(text) }
    }

    /// Holds that nothing is left.
    pub(crate) fn end(self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(Fault::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_utf_8_without_nul() {
        assert_eq!(Reader(b"\0\x02ab").string(), Ok("ab"));
        assert_eq!(Reader("\0\x02ä".as_bytes()).string(), Ok("ä"));
        for bad in [&b"\0\x02a"[..], b"\0", b"\0\x01\0", b"\0\x02\xc3\x28", b"\0\x03\xed\xa0\x80"] {
            assert_eq!(Reader(bad).string(), Err(Fault::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn variable_byte_integers_have_one_form() {
        for (bytes, value) in
            [(&[0][..], 0), (&[0x7F], 127), (&[0x80, 1], 128), (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455)]
        {
            assert_eq!(Reader(bytes).varint(), Ok(value));
        }
        for bad in [&[][..], &[0x80], &[0x80, 0], &[0xFF, 0xFF, 0xFF, 0xFF, 1]] {
            assert_eq!(Reader(bad).varint(), Err(Fault::Malformed), "{bad:?}");
        }
    }
}
