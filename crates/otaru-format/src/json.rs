//! JSON (RFC 8259) of commands and reports, read and written in place: no allocation, no recursion.
//!
//! A library reads it into types and costs a chip 4 KB of code more. What is read is one object of texts, whole numbers and
//! flags; values of other kinds are checked and passed over, so that later versions may add fields.

/// Deepest nesting of a value that is passed over.
const DEPTH: u32 = 32;

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

/// Objects being written. What does not fit makes [`Writer::finish`] return nothing.
pub(crate) struct Writer<'b> {
    buf: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// Begins an object.
    pub(crate) fn new(buf: &'b mut [u8]) -> Self {
        let mut writer = Self { buf, len: 0 };
        writer.put(b'{');
        writer
    }

    /// Ends the object.
    pub(crate) fn finish(mut self) -> Option<&'b str> {
        self.put(b'}');
        let Self { buf, len } = self;
        core::str::from_utf8(buf.get(..len)?).ok()
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.quote(text);
    }

    /// Adds a text, if there is one.
    pub(crate) fn text_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number);
    }

    /// Adds a number, if there is one.
    pub(crate) fn number_if(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    /// Adds a number that may be negative.
    pub(crate) fn signed(&mut self, name: &str, number: i32) {
        self.name(name);
        if number < 0 {
            self.put(b'-');
        }
        self.digits(number.unsigned_abs().into());
    }

    /// Adds a flag.
    pub(crate) fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.put_all(if flag { b"true" } else { b"false" });
    }

    /// Begins an object within.
    pub(crate) fn open(&mut self, name: &str) {
        self.name(name);
        self.put(b'{');
    }

    /// Ends it.
    pub(crate) fn close(&mut self) {
        self.put(b'}');
    }

    fn name(&mut self, name: &str) {
        let first = self.len.checked_sub(1).and_then(|last| self.buf.get(last)) == Some(&b'{');
        if !first {
            self.put(b',');
        }
        self.quote(name);
        self.put(b':');
    }

    fn quote(&mut self, text: &str) {
        self.put(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => self.put(b'\\'),
                0..0x20 => {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    self.put_all(b"\\u00");
                    self.put(DIGITS[usize::from(byte >> 4)]);
                    self.put(DIGITS[usize::from(byte & 15)]);
                    continue;
                }
                _ => {}
            }
            self.put(byte);
        }
        self.put(b'"');
    }

    fn digits(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            // One digit is less than 10.
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 || first == 0 {
                break;
            }
        }
        self.put_all(&digits[first..]);
    }

    fn put_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(*byte));
    }

    /// Counts what does not fit, too: then [`Writer::finish`] finds more than there is room for.
    fn put(&mut self, byte: u8) {
        if let Some(place) = self.buf.get_mut(self.len) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    /// An object's members, as [`Object`] reads them.
    fn read(text: &str) -> Result<Vec<(String, String)>, BadJson> {
        let mut object = Object::open(text)?;
        let mut members = vec![];
        while let Some((name, value)) = object.next()? {
            let shown = match value {
                Value::Text(text) => format!("{:?}", unescaped(text)),
                Value::Number(number) => format!("{number}"),
                Value::Flag(flag) => format!("{flag}"),
                Value::Null => "null".into(),
                Value::Other => "other".into(),
            };
            members.push((unescaped(name), shown));
        }
        Ok(members)
    }

    fn unescaped(text: Text<'_>) -> String {
        let mut buf = vec![0; 4096];
        let plain = String::from(Text(text.0).unescape(&mut buf).unwrap().0);
        assert!(text.is(&plain));
        assert!(!text.is(&format!("{plain}x")) && !text.is(plain.get(1..).unwrap_or("x")));
        plain
    }

    /// The same as serde_json reads it. It drops the first of two members of one name, so these are compared by name and last value.
    fn reference(text: &str) -> Option<Vec<(String, String)>> {
        let serde_json::Value::Object(map) = serde_json::from_str(text).ok()? else { return None };
        let shown = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => format!("{text:?}"),
            serde_json::Value::Bool(flag) => format!("{flag}"),
            serde_json::Value::Null => "null".into(),
            serde_json::Value::Number(number) => {
                number.as_u64().map_or("other".into(), |number| format!("{number}"))
            }
            _ => "other".into(),
        };
        Some(map.iter().map(|(name, value)| (name.clone(), shown(value))).collect())
    }

    fn agree(text: &str) {
        let ours = read(text).ok().map(|members| {
            let mut last = std::collections::BTreeMap::new();
            last.extend(members);
            last.into_iter().collect::<Vec<_>>()
        });
        let mut theirs = reference(text);
        if let Some(theirs) = &mut theirs {
            theirs.sort();
        }
        // A number that serde_json's f64 cannot hold is JSON all the same.
        if theirs.is_none() && text.contains(['e', 'E']) {
            return;
        }
        assert_eq!(ours, theirs, "{text}");
    }

    #[test]
    fn objects_are_read_as_the_rfc_has_them() {
        for text in [
            "{}",
            " { } ",
            r#"{"a":1}"#,
            "\t{\n\"a\" : \"b\" , \"c\":null}\r\n",
            r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
            r#"{"a":"é😀\u0000"}"#,
            r#"{"\u0061b":true,"c":false}"#,
            r#"{"n":0,"m":-0,"o":-1,"p":1.5,"q":1e3,"r":1E-3,"s":18446744073709551615,"t":18446744073709551616}"#,
            r#"{"a":[],"b":{},"c":[1,"x",[true,null],{"y":[{}]}],"d":{"e":{"f":[[[]]]}}}"#,
            // Not JSON.
            "",
            "{",
            "}",
            "{}x",
            "{}{}",
            "[]",
            "{,}",
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{a:1}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":+1}"#,
            r#"{"a":0x1}"#,
            r#"{"a":tru}"#,
            r#"{"a":nullx}"#,
            r#"{"a":"x}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\u+123"}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ud83dx"}"#,
            r#"{"a":"\ud83d\u0041"}"#,
            r#"{"a":"\ude00"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":[}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[1}]}"#,
            r#"{"a":{"b":1]}"#,
            r#"{"a":{"b"}}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":[{"b":1},{"c":}]}"#,
        ] {
            agree(text);
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEPTH as usize)).is_ok());
        assert_eq!(read(&nested(DEPTH as usize + 1)), Err(BadJson));
    }

    #[test]
    fn a_buffer_that_is_too_short_is_told() {
        let write = |len: usize| {
            let mut buf = vec![0; len];
            let mut writer = Writer::new(&mut buf);
            writer.text("a", "b");
            writer.finish().map(String::from)
        };
        assert_eq!(write(9).as_deref(), Some(r#"{"a":"b"}"#));
        assert!((0..9).all(|len| write(len).is_none()));
    }

    /// JSON, and text near it: pieces of the grammar in any order.
    fn near_json() -> impl Strategy<Value = String> {
        const PIECES: [&str; 34] = [
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\"b\":1", " ", "\n", "0", "1", "-", ".5",
            "12", "e3", "true", "false", "null", "\\", "\\n", "\\u00e9", "\\ud83d", "\\ude00", "é", "x",
            "\u{1}", "{}", "[]", "1,", "\"c\":\"", "\"d\":[",
        ];
        prop::collection::vec(prop::sample::select(&PIECES[..]), 0..14)
            .prop_map(|pieces| format!("{{{}}}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn anything_is_read_as_serde_json_reads_it(text in near_json()) {
            agree(&text);
        }

        #[test]
        fn what_is_written_leads_back(text in ".{0,40}", number: u64, signed: i32, flag: bool) {
            let mut buf = [0; 1024];
            let mut writer = Writer::new(&mut buf);
            writer.text("text", &text);
            writer.number("number", number);
            writer.signed("signed", signed);
            writer.open("within");
            writer.flag("flag", flag);
            writer.close();
            writer.text_if("none", None);
            let json: serde_json::Value = serde_json::from_str(writer.finish().unwrap()).unwrap();
            prop_assert_eq!(
                json,
                serde_json::json!({"text": text, "number": number, "signed": signed, "within": {"flag": flag}})
            );
        }
    }
}
