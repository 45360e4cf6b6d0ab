//! Reading one object, member by member.

/// Deepest nesting of a value that is passed over.
pub(super) const DEPTH: u32 = 32;

/// Not JSON, or nested deeper than [`DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadJson;

/// The value of an object's member.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A string.
    Text(Text<'a>),
    /// A whole number without sign, point or exponent.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// `null`.
    Null,
    /// Any other number, an array or an object.
    Other,
}

impl<'a> Value<'a> {
    /// The string that it is.
    pub(crate) fn text(self) -> Result<Text<'a>, BadJson> {
        if let Self::Text(text) = self { Ok(text) } else { Err(BadJson) }
    }

    /// The number that it is.
    pub(crate) fn number(self) -> Result<u64, BadJson> {
        if let Self::Number(number) = self { Ok(number) } else { Err(BadJson) }
    }

    /// The flag that it is.
    pub(crate) fn flag(self) -> Result<bool, BadJson> {
        if let Self::Flag(flag) = self { Ok(flag) } else { Err(BadJson) }
    }
}

/// A string as it is written: with escapes, without quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Whether this is the text `other`.
    pub(crate) fn is(self, other: &str) -> bool {
        let mut rest = Reader(self.0);
        let mut same = other.chars().all(|c| rest.character() == Ok(Some(c)));
        same &= rest.0.is_empty();
        same
    }

    /// Puts the text, without escapes, into the start of `buf`; returns it with the unused rest, `None` when `buf` is too short.
    pub(crate) fn unescape(self, buf: &mut [u8]) -> Option<(&str, &mut [u8])> {
        let mut len = 0;
        let mut rest = Reader(self.0);
        while !rest.0.is_empty() {
            let mut utf8 = [0; 4];
            let part = rest.character().ok()??.encode_utf8(&mut utf8);
            let end = len + part.len();
            buf.get_mut(len..end)?.copy_from_slice(part.as_bytes());
            len = end;
        }
        let (text, rest) = buf.split_at_mut(len);
        Some((core::str::from_utf8(text).ok()?, rest))
    }
}

/// An object being read, member by member.
pub(crate) struct Object<'a> {
    reader: Reader<'a>,
    begun: bool,
}

impl<'a> Object<'a> {
    /// The object that this text is.
    pub(crate) fn open(text: &'a str) -> Result<Self, BadJson> {
        let mut reader = Reader(text.as_bytes());
        reader.space();
        reader.expect(b'{')?;
        Ok(Self { reader, begun: false })
    }

    /// The next member; `None` when the object, and with it the text, ends.
    pub(crate) fn next(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, BadJson> {
        let reader = &mut self.reader;
        reader.space();
        if reader.take(b'}') {
            reader.space();
            return if reader.0.is_empty() { Ok(None) } else { Err(BadJson) };
        }
        if core::mem::replace(&mut self.begun, true) {
            reader.expect(b',')?;
        }
        let name = reader.name()?;
        Ok(Some((name, reader.value()?)))
    }
}

/// Cursor over the rest of the text.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, BadJson> {
        let (byte, rest) = self.0.split_first().ok_or(BadJson)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is = self.0.first() == Some(&byte);
        if is {
            self.0 = &self.0[1..];
        }
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), BadJson> {
        if self.take(byte) { Ok(()) } else { Err(BadJson) }
    }

    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// A member's name, with what stands around it.
    fn name(&mut self) -> Result<Text<'a>, BadJson> {
        self.space();
        self.expect(b'"')?;
        let name = self.text()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    /// The rest of a string, behind its first quote.
    fn text(&mut self) -> Result<Text<'a>, BadJson> {
        let whole = self.0;
        while self.character()?.is_some() {}
        Ok(Text(&whole[..whole.len() - self.0.len() - 1]))
    }

    /// A character of a string; `None` for the quote that ends it.
    fn character(&mut self) -> Result<Option<char>, BadJson> {
        let first = self.byte()?;
        let number = match first {
            b'"' => return Ok(None),
            b'\\' => return self.escape().map(Some),
            0..0x20 => return Err(BadJson),
            0x20..0x80 => return Ok(Some(char::from(first))),
            // The text is UTF-8, so the first byte tells how many follow (RFC 3629 section 3).
            0x80..0xE0 => u32::from(first & 0x1F),
            0xE0..0xF0 => u32::from(first & 0x0F),
            _ => u32::from(first & 0x07),
        };
        let more = 1 + usize::from(first >= 0xE0) + usize::from(first >= 0xF0);
        let number = (0..more).try_fold(number, |n, _| Ok(n << 6 | u32::from(self.byte()? & 0x3F)))?;
        char::from_u32(number).map(Some).ok_or(BadJson)
    }

    /// Reads an escape behind its backslash (RFC 8259 section 7).
    fn escape(&mut self) -> Result<char, BadJson> {
        Ok(match self.byte()? {
            same @ (b'"' | b'\\' | b'/') => char::from(same),
            b'b' => '\x08',
            b'f' => '\x0C',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut number = self.hex()?;
                if number & 0xFC00 == 0xD800 {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    let low = self.hex()?.wrapping_sub(0xDC00);
                    number = if low < 0x400 { 0x1_0000 + ((number & 0x3FF) << 10) + low } else { 0xD800 };
                }
                // Half a pair is no character.
                return char::from_u32(number).ok_or(BadJson);
            }
            _ => return Err(BadJson),
        })
    }

    fn hex(&mut self) -> Result<u32, BadJson> {
        (0..4).try_fold(0, |n, _| Ok(n << 4 | char::from(self.byte()?).to_digit(16).ok_or(BadJson)?))
    }

    /// A value, whole.
    fn value(&mut self) -> Result<Value<'a>, BadJson> {
        if matches!(self.0.first(), Some(b'{' | b'[')) {
            self.nested()?;
            return Ok(Value::Other);
        }
        self.scalar()
    }

    fn scalar(&mut self) -> Result<Value<'a>, BadJson> {
        for (word, value) in
            [(&b"true"[..], Value::Flag(true)), (b"false", Value::Flag(false)), (b"null", Value::Null)]
        {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        if self.take(b'"') { self.text().map(Value::Text) } else { self.number() }
    }

    /// A number (RFC 8259 section 6).
    fn number(&mut self) -> Result<Value<'a>, BadJson> {
        let mut whole = !self.take(b'-');
        let mut number = Some(0_u64);
        let zero = self.0.first() == Some(&b'0');
        let digits = self.digits(|digit| {
            number = number.and_then(|n| n.checked_mul(10)?.checked_add(digit));
        })?;
        if zero && digits > 1 {
            return Err(BadJson);
        }
        if self.take(b'.') {
            whole = false;
            self.digits(|_| ())?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _ = self.take(b'+') || self.take(b'-');
            self.digits(|_| ())?;
        }
        Ok(number.filter(|_| whole).map_or(Value::Other, Value::Number))
    }

    /// At least one digit; returns how many.
    fn digits(&mut self, mut each: impl FnMut(u64)) -> Result<usize, BadJson> {
        let mut count = 0;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            each(u64::from(digit - b'0'));
            self.0 = rest;
            count += 1;
        }
        if count == 0 { Err(BadJson) } else { Ok(count) }
    }

    /// An array or an object with all that is in it. One bit a level says which.
    fn nested(&mut self) -> Result<(), BadJson> {
        let (mut objects, mut depth) = (0_u32, 0_u32);
        loop {
            let object = self.take(b'{');
            if object || self.take(b'[') {
                if depth == DEPTH {
                    return Err(BadJson);
                }
                objects = objects << 1 | u32::from(object);
                depth += 1;
                self.space();
                if !self.closes(object) {
                    if object {
                        self.name()?;
                    }
                    continue;
                }
                objects >>= 1;
                depth -= 1;
            } else {
                self.scalar()?;
            }
            // Behind a value: what it stands in ends, or goes on.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                self.space();
                if self.closes(object) {
                    objects >>= 1;
                    depth -= 1;
                    continue;
                }
                self.expect(b',')?;
                self.space();
                if object {
                    self.name()?;
                }
                break;
            }
        }
    }

    fn closes(&mut self, object: bool) -> bool {
        self.take(if object { b'}' } else { b']' })
    }
}
