//! PEM texts for tests.

/// Returns the PEM of a SEQUENCE with so many bytes in it, of no certificate or key, but of their form.
pub(crate) fn pem(label: &str, length: usize) -> String {
    pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, &der(length, 7)).unwrap()
}

/// Returns a SEQUENCE with so many bytes in it, each of them the same.
pub(crate) fn der(length: usize, byte: u8) -> Vec<u8> {
    let mut der = vec![0x30];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7F) => der.push(short),
        Ok(length) => der.extend([0x81, length]),
        Err(_) => {
            der.push(0x82);
            der.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    let head = der.len();
    der.resize(head + length, byte);
    der
}
