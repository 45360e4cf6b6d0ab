//! CAs that a person has set, and a certificate of the device's own with its key: bounds, layout, and changes of them.
//!
//! Each is DER, behind a byte for its kind and two for its length. CAs that are built in are not among them.

use core::fmt;

use heapless::Vec;
use otaru_format::digest::Digest;

use crate::pem::{BadPem, MOST_CAS};

/// Most bytes of certificates and key together: flash has room for those that are tried and for those that worked last.
pub const ROOM: usize = 4096;
/// Longest store, with all that it may hold.
pub const LEN: usize = ROOM + ENTRIES * HEAD;
/// Most entries: CAs, a certificate and its key.
const ENTRIES: usize = MOST_CAS + 2;
/// Bytes in front of an entry.
const HEAD: usize = 3;

/// Name of a certificate: the first 16 hexadecimal digits of its SHA-256, as reports have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id([u8; 8]);

impl Id {
    /// Returns the name of a certificate, which is in DER.
    pub fn of(der: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(der).0;
        Self([a, b, c, d, e, f, g, h])
    }

    /// Reads the 16 digits.
    pub fn from_digits(text: &[u8]) -> Option<Self> {
        let digits: &[u8; 16] = text.try_into().ok()?;
        let mut bytes = [0; 8];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
            }
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Field of the set-up page that certificates or a key are pasted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// CAs to trust.
    Cas,
    /// The device's own certificate.
    Certificate,
    /// The key of that certificate.
    Key,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cas => "CAs to trust",
            Self::Certificate => "certificate of this device",
            Self::Key => "key of the certificate",
        })
    }
}

/// Reason that certificates are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTrust {
    /// A field has something else in it.
    Pem(Field, BadPem),
    /// A certificate without its key, or a key without its certificate.
    Pair,
    /// There would be more CAs than [`MOST_CAS`].
    TooMany,
    /// Certificates and key would have so many bytes together, more than [`ROOM`].
    NoRoom(usize),
    /// TLS is wanted, and there is no CA, neither built in nor set.
    Nobody,
}

impl fmt::Display for BadTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WHOLE: &str = "copy it again, from its line -----BEGIN to its line -----END";
        match self {
            Self::Pem(field, BadPem::None | BadPem::Path) => {
                write!(
                    f,
                    "{field}: this is no PEM text: paste what is in the file, from -----BEGIN to -----END"
                )
            }
            Self::Pem(field, BadPem::Damaged) => write!(f, "{field}: a PEM text is damaged or cut: {WHOLE}"),
            Self::Pem(field, BadPem::OtherKind) => {
                write!(
                    f,
                    "{field}: a PEM text is of another kind: paste BEGIN {}",
                    match field {
                        Field::Key => "PRIVATE KEY",
                        Field::Cas | Field::Certificate => "CERTIFICATE",
                    }
                )
            }
            Self::Pem(field, BadPem::Private) => {
                write!(f, "{field}: a private key stands where a certificate is wanted")?;
                f.write_str(match field {
                    Field::Cas => ": paste the CA's certificate, and give its key to no device",
                    Field::Certificate | Field::Key => ": paste the key into its own field",
                })
            }
            Self::Pem(field, BadPem::Certificate) => {
                write!(f, "{field}: a certificate stands where its key is wanted: paste BEGIN PRIVATE KEY")
            }
            Self::Pem(field, BadPem::Encrypted) => {
                write!(
                    f,
                    "{field}: it has a password, which a device cannot ask for: paste the key without one"
                )
            }
            Self::Pem(Field::Cas, BadPem::TooMany) | Self::TooMany => write!(
                f,
                "CAs to trust: there is room for {MOST_CAS}, those that are kept included: remove one, or paste fewer"
            ),
            Self::Pem(field, BadPem::TooMany) => {
                write!(f, "{field}: there is room for one: paste that alone")
            }
            Self::Pem(field, BadPem::TooLarge) => {
                write!(f, "{field}: it is larger than {} bytes: take one with an EC key", crate::pem::LONGEST)
            }
            Self::Pair => {
                f.write_str("certificate of this device: it goes together with its key: paste both")
            }
            Self::NoRoom(bytes) => write!(
                f,
                "CAs, certificate and key have {bytes} bytes, and there is room for {ROOM}: remove one, or take some with EC keys"
            ),
            Self::Nobody => f.write_str("TLS needs a CA to trust: paste the one of the broker"),
        }
    }
}

impl core::error::Error for BadTrust {}

/// Longest sentence of a [`BadTrust`], in bytes.
pub const SENTENCE: usize = 160;

/// Changes that a person asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change<'f> {
    /// CAs and certificates to be removed; with the device's certificate goes its key.
    pub remove: Vec<Id, { MOST_CAS + 1 }>,
    /// CAs to be added, as DER.
    pub cas: Vec<&'f [u8], MOST_CAS>,
    /// Certificate of the device and its key, as DER, in place of those that are kept.
    pub identity: Option<(&'f [u8], &'f [u8])>,
}

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ca = 1,
    Certificate = 2,
    Key = 3,
}

/// CAs and a certificate of the device's own, in a buffer.
#[derive(Debug)]
pub struct TrustStore<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> TrustStore<'b> {
    /// Returns one without anything in it. A buffer of [`LEN`] bytes has room for all that it may hold.
    pub fn empty(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Takes what stands in the first `len` bytes of a buffer; `None` if that is none.
    pub fn read(buffer: &'b mut [u8], len: usize) -> Option<Self> {
        is_store(buffer.get(..len)?).then_some(Self { buffer, len })
    }

    /// Takes what stands in the first `len` bytes of a buffer, or nothing if that is none.
    pub fn read_or_empty(buffer: &'b mut [u8], len: usize) -> Self {
        let len = if buffer.get(..len).is_some_and(is_store) { len } else { 0 };
        Self { buffer, len }
    }

    /// Returns its bytes, none if there is nothing in it.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// Returns the CAs, as DER.
    pub fn cas(&self) -> impl Iterator<Item = &[u8]> {
        self.entries().filter(|(kind, _)| *kind == Kind::Ca).map(|(_, der)| der)
    }

    /// Returns the certificate of the device and its key, as DER.
    pub fn identity(&self) -> Option<(&[u8], &[u8])> {
        let one = |wanted| self.entries().find(|(kind, _)| *kind == wanted).map(|(_, der)| der);
        Some((one(Kind::Certificate)?, one(Kind::Key)?))
    }

    /// Makes changes, all or none of them. A CA that is there already is not added.
    ///
    /// # Errors
    /// Returns an error if there would be more than there may be.
    pub fn change(&mut self, change: &Change<'_>) -> Result<(), BadTrust> {
        let Change { remove, cas, identity } = change;
        let own = self.identity().map(|(certificate, _)| Id::of(certificate));
        let own_goes = identity.is_some() || own.is_some_and(|own| remove.contains(&own));
        let stays = |kind: Kind, der: &[u8]| match kind {
            Kind::Ca => !remove.contains(&Id::of(der)),
            Kind::Certificate | Kind::Key => !own_goes,
        };
        let is_new = |(at, ca): (usize, &&[u8])| {
            !self.cas().any(|kept| kept == *ca && stays(Kind::Ca, kept))
                && !cas.iter().take(at).any(|before| before == ca)
        };
        let mut new: Vec<&[u8], MOST_CAS> = Vec::new();
        for (at, ca) in cas.iter().enumerate() {
            if is_new((at, ca)) {
                let _ = new.push(ca);
            }
        }
        let staying = self.entries().filter(|(kind, der)| stays(*kind, der));
        let (kept, bytes) = staying.fold((0, 0), |(kept, bytes), (kind, der)| {
            (kept + usize::from(kind == Kind::Ca), bytes + der.len())
        });
        let own_bytes = identity.map_or(0, |(certificate, key)| certificate.len() + key.len());
        let bytes = bytes + own_bytes + new.iter().map(|ca| ca.len()).sum::<usize>();
        if kept + new.len() > MOST_CAS {
            return Err(BadTrust::TooMany);
        }
        if bytes > ROOM {
            return Err(BadTrust::NoRoom(bytes));
        }
        let (mut from, mut to) = (0, 0);
        while let Some((kind, der, _)) = self.buffer.get(from..self.len).and_then(first) {
            let whole = HEAD + der.len();
            if stays(kind, der) {
                self.buffer.copy_within(from..from + whole, to);
                to += whole;
            }
            from += whole;
        }
        self.len = to;
        let new = new.iter().map(|ca| (Kind::Ca, *ca));
        let own = identity
            .iter()
            .flat_map(|(certificate, key)| [(Kind::Certificate, *certificate), (Kind::Key, *key)]);
        new.chain(own).try_for_each(|(kind, der)| self.push(kind, der)).ok_or(BadTrust::NoRoom(bytes))
    }

    fn push(&mut self, kind: Kind, der: &[u8]) -> Option<()> {
        let (head, rest) = self.buffer.get_mut(self.len..)?.split_first_chunk_mut::<HEAD>()?;
        rest.get_mut(..der.len())?.copy_from_slice(der);
        let [low, high] = u16::try_from(der.len()).ok()?.to_le_bytes();
        *head = [kind as u8, low, high];
        self.len += HEAD + der.len();
        Some(())
    }

    fn entries(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let mut rest = self.bytes();
        core::iter::from_fn(move || {
            let (kind, der, behind) = first(rest)?;
            rest = behind;
            Some((kind, der))
        })
    }
}

/// Whether these are whole entries, and no more than there may be.
fn is_store(bytes: &[u8]) -> bool {
    let (mut rest, mut cas, mut own) = (bytes, 0, (0, 0));
    while let Some((kind, _, behind)) = first(rest) {
        rest = behind;
        match kind {
            Kind::Ca => cas += 1,
            Kind::Certificate => own.0 += 1,
            Kind::Key => own.1 += 1,
        }
    }
    rest.is_empty() && cas <= MOST_CAS && matches!(own, (0, 0) | (1, 1))
}

/// Reads the first entry, and returns what stands behind it as well.
fn first(bytes: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let ([kind, low, high], rest) = bytes.split_first_chunk::<HEAD>()?;
    let kind = match kind {
        1 => Kind::Ca,
        2 => Kind::Certificate,
        3 => Kind::Key,
        _ => return None,
    };
    let (der, behind) = rest.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
    Some((kind, der, behind))
}

/// Store in flash, as settings name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTrust {
    /// Number of the bank that it stands in.
    pub(crate) bank: u8,
    len: u16,
    /// Beginning of its SHA-256: bytes that were damaged, or replaced, are told.
    check: [u8; 8],
}

impl StoredTrust {
    /// Bytes of it within settings.
    pub const LEN: usize = 11;

    /// Describes these bytes in this bank.
    pub(crate) fn new(bank: u8, bytes: &[u8]) -> Self {
        let Id(check) = Id::of(bytes);
        Self { bank, len: u16::try_from(bytes.len()).unwrap_or(u16::MAX), check }
    }

    /// Reads it; more may stand behind it.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([bank, low, high], rest) = bytes.split_first_chunk::<3>()?;
        Some(Self { bank: *bank, len: u16::from_le_bytes([*low, *high]), check: *rest.first_chunk()? })
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let ([low, high], [a, b, c, d, e, f, g, h]) = (self.len.to_le_bytes(), self.check);
        [self.bank, low, high, a, b, c, d, e, f, g, h]
    }

    /// Number of bytes.
    pub(crate) fn len(self) -> usize {
        self.len.into()
    }

    /// Returns whether bytes with this hash are those.
    pub(crate) fn has(self, hash: &[u8]) -> bool {
        hash.starts_with(&self.check)
    }

    /// Returns whether it is of the same bytes, in whichever bank.
    pub(crate) fn is_of(self, other: Self) -> bool {
        (self.len, self.check) == (other.len, other.check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem_text::der;

    type Bytes = std::vec::Vec<u8>;

    /// Adds CAs of these lengths.
    fn adding(cas: &[Bytes]) -> Change<'_> {
        Change { cas: cas.iter().map(Bytes::as_slice).collect(), ..Change::default() }
    }

    fn lengths(store: &TrustStore<'_>) -> std::vec::Vec<usize> {
        store.cas().map(<[u8]>::len).collect()
    }

    #[test]
    fn a_name_is_that_of_reports() {
        let ca = der(300, 1);
        let id = Id::of(&ca).to_string();
        assert_eq!(id, otaru_format::status::CaIds::of([&ca[..]]).as_str());
        assert_eq!(Id::from_digits(id.as_bytes()), Some(Id::of(&ca)));
        assert_eq!(Id::from_digits(id.to_uppercase().as_bytes()), Some(Id::of(&ca)));
        for bad in ["", "0123", "0123456789abcdeg", "0123456789abcdef0"] {
            assert_eq!(Id::from_digits(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_added_is_there_and_what_is_removed_is_not() {
        let mut buffer = [0; LEN];
        let mut store = TrustStore::empty(&mut buffer);
        let cas = [der(300, 1), der(400, 2), der(300, 3)];
        store.change(&adding(&cas)).unwrap();
        assert_eq!(lengths(&store), [304, 404, 304]);
        assert_eq!(store.identity(), None);
        let (certificate, key) = (der(500, 4), der(130, 5));
        store.change(&Change { identity: Some((&certificate, &key)), ..Change::default() }).unwrap();
        assert_eq!(store.identity(), Some((&certificate[..], &key[..])));
        // One goes from the middle, another comes, and one that is there already comes again.
        let (again, other) = (der(300, 3), der(350, 6));
        let mut change =
            Change { cas: [&again[..], &other, &other].into_iter().collect(), ..Change::default() };
        change.remove.push(Id::of(&cas[1])).unwrap();
        store.change(&change).unwrap();
        assert_eq!(lengths(&store), [304, 304, 354]);
        assert_eq!(store.identity(), Some((&certificate[..], &key[..])));
        // Another pair replaces it; with the certificate goes the key.
        let another = der(90, 7);
        store.change(&Change { identity: Some((&another, &key)), ..Change::default() }).unwrap();
        assert_eq!(store.identity(), Some((&another[..], &key[..])));
        let mut change = Change::default();
        change.remove.push(Id::of(&another)).unwrap();
        store.change(&change).unwrap();
        assert_eq!((store.identity(), lengths(&store).len()), (None, 3));
        // The bytes lead back.
        let bytes = store.bytes().to_vec();
        let len = bytes.len();
        let mut copy = bytes.clone();
        assert_eq!(TrustStore::read(&mut copy, len).unwrap().bytes(), bytes);
        // A CA that is removed may be added in the same change.
        let mut change = adding(&cas[..1]);
        change.remove.push(Id::of(&cas[0])).unwrap();
        store.change(&change).unwrap();
        assert_eq!(lengths(&store), [304, 354, 304]);
    }

    #[test]
    fn four_cas_are_the_most() {
        let mut buffer = [0; LEN];
        let mut store = TrustStore::empty(&mut buffer);
        let cas: std::vec::Vec<_> = (0..4).map(|byte| der(100, byte)).collect();
        store.change(&adding(&cas)).unwrap();
        let before = store.bytes().to_vec();
        let fifth = [der(100, 9)];
        assert_eq!(store.change(&adding(&fifth)), Err(BadTrust::TooMany));
        assert_eq!(store.bytes(), before, "nothing is changed");
        store.change(&adding(&cas)).unwrap();
        assert_eq!(store.bytes(), before, "each of them is there");
        let mut change = adding(&fifth);
        change.remove.push(Id::of(&cas[2])).unwrap();
        store.change(&change).unwrap();
        assert_eq!(store.cas().count(), 4);
        assert!(BadTrust::TooMany.to_string().contains("room for 4"));
    }

    #[test]
    fn the_room_is_filled_to_the_last_byte() {
        let cas: std::vec::Vec<_> = (0..4).map(|byte| der(700, byte)).collect();
        let (certificate, key) = (der(1000, 4), der(272, 5));
        let mut buffer = [0; LEN];
        let mut store = TrustStore::empty(&mut buffer);
        let whole = Change { identity: Some((&certificate, &key)), ..adding(&cas) };
        store.change(&whole).unwrap();
        assert_eq!(store.bytes().len(), LEN);
        let before = store.bytes().to_vec();
        let longer = der(273, 5);
        let more = Change { identity: Some((&certificate, &longer)), ..Change::default() };
        assert_eq!(store.change(&more), Err(BadTrust::NoRoom(4097)));
        assert_eq!(store.bytes(), before, "nothing is changed");
        let said = BadTrust::NoRoom(4097).to_string();
        assert!(said.contains("4097 bytes") && said.contains("room for 4096"), "{said}");
        // A buffer that is too short is told, too.
        let mut short = [0; 100];
        assert!(TrustStore::empty(&mut short).change(&whole).is_err());
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut buffer = [0; LEN];
        let mut store = TrustStore::empty(&mut buffer);
        let cas = [der(20, 1), der(30, 2)];
        store.change(&Change { identity: Some((&der(20, 3), &der(10, 4))), ..adding(&cas) }).unwrap();
        let bytes = store.bytes().to_vec();
        for end in 0..bytes.len() {
            let ends_with_an_entry = [22, 22 + 3 + 32].map(|end| end + 3).contains(&end) || end == 0;
            assert_eq!(TrustStore::read(&mut bytes.clone(), end).is_some(), ends_with_an_entry, "{end}");
        }
        for at in 0..bytes.len() {
            for byte in [0, 1, 2, 3, 4, 0x7F, 0xFF] {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                let len = bytes.len();
                if let Some(mut store) = TrustStore::read(&mut bytes, len) {
                    let _ = store.change(&Change::default());
                    assert!(store.cas().count() <= MOST_CAS);
                }
            }
        }
        let mut five = std::vec::Vec::new();
        for byte in 0..5 {
            five.extend([1, 4, 0, 0x30, 2, byte, 0]);
        }
        let len = five.len();
        assert!(TrustStore::read(&mut five, len).is_none(), "more CAs than there may be");
        assert!(TrustStore::read(&mut [2, 1, 0, 9], 4).is_none(), "a certificate without its key");
        assert!(TrustStore::read(&mut [0; 4], 5).is_none(), "more than there is");
    }

    #[test]
    fn every_reason_says_what_to_do() {
        let pems = [
            BadPem::None,
            BadPem::Path,
            BadPem::Damaged,
            BadPem::OtherKind,
            BadPem::Private,
            BadPem::Certificate,
            BadPem::Encrypted,
            BadPem::TooMany,
            BadPem::TooLarge,
        ];
        let fields = [Field::Cas, Field::Certificate, Field::Key];
        let of_fields = fields.into_iter().flat_map(|field| pems.map(|pem| BadTrust::Pem(field, pem)));
        let others = [BadTrust::Pair, BadTrust::TooMany, BadTrust::NoRoom(usize::MAX), BadTrust::Nobody];
        for bad in of_fields.chain(others) {
            let said = bad.to_string();
            assert!(["paste", "copy", "remove", "take"].iter().any(|word| said.contains(word)), "{said}");
            assert!(said.len() <= SENTENCE, "{} bytes: {said}", said.len());
        }
    }
}
