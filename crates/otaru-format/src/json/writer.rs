//! Writing objects into a buffer.

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
