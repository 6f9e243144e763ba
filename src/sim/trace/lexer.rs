//! Reads JSON a value at a time from a file of any length, and knows the line it is at.
//!
//! Owns the buffer between a trace file and its readers. A day's trace is one JSON object with
//! millions of `[t_ms, index]` pairs in it: a reader that builds values would hold all of them, and
//! a general streaming one costs more than simulating the call. So this is a pull reader: the
//! caller says what must come next. What it does not expect is refused with the line.

use super::TraceError;
use std::io::Read;

const BUFFER_BYTES: usize = 1 << 18;
/// No value of a trace nests deeper; a file that does is an attack or a mistake.
const DEPTH_MAX: usize = 64;
/// Numbers with more characters than this are refused, not guessed.
const NUMBER_BYTES_MAX: usize = 64;
const STRING_BYTES_MAX: usize = 1 << 16;

pub struct Lexer {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    at: usize,
    len: usize,
    line: u64,
    /// The last line had no end.
    is_cut: bool,
}

impl core::fmt::Debug for Lexer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lexer")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Lexer {
    pub fn new(source: Box<dyn Read + Send>) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER_BYTES],
            at: 0,
            len: 0,
            line: 1,
            is_cut: false,
        }
    }

    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whether the file ended within a line that was read.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub fn refuse(&self, why: impl Into<String>) -> TraceError {
        TraceError::at(self.line, why)
    }

    /// The next byte, not consumed; `None` at the end of the file.
    pub fn byte(&mut self) -> Result<Option<u8>, TraceError> {
        if self.at == self.len && !self.fill()? {
            return Ok(None);
        }
        Ok(Some(self.buffer[self.at]))
    }

    fn fill(&mut self) -> Result<bool, TraceError> {
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(len) => {
                    self.at = 0;
                    self.len = len;
                    return Ok(len > 0);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(&error)),
            }
        }
    }

    fn read_error(&self, error: &std::io::Error) -> TraceError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self
                .refuse("the gzip stream ends in the middle")
                .remedied("copy the file again"),
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => self
                .refuse(format!("the gzip stream is damaged: {error}"))
                .remedied("copy the file again"),
            _ => self
                .refuse(format!("cannot be read: {error}"))
                .remedied("name a file that can be read"),
        }
    }

    /// The next byte that is no white space, not consumed.
    pub fn peek(&mut self) -> Result<Option<u8>, TraceError> {
        loop {
            match self.byte()? {
                Some(b'\n') => {
                    self.line += 1;
                    self.at += 1;
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    fn peek_some(&mut self, wanted: &str) -> Result<u8, TraceError> {
        match self.peek()? {
            Some(byte) => Ok(byte),
            None => Err(self.refuse(format!("the file ends where {wanted} should be"))),
        }
    }

    pub fn expect(&mut self, wanted: u8) -> Result<(), TraceError> {
        let name = format_args!("`{}`", wanted as char).to_string();
        let found = self.peek_some(&name)?;
        if found == wanted {
            self.at += 1;
            return Ok(());
        }
        Err(self.refuse(format!("found {} where {name} should be", shown(found))))
    }

    /// After an element: consumes a comma (another follows) or the closing byte.
    pub fn another(&mut self, closing: u8) -> Result<bool, TraceError> {
        let found = self.peek_some("a comma or the end of a list")?;
        self.at += 1;
        if found == b',' {
            return Ok(true);
        }
        if found == closing {
            return Ok(false);
        }
        let close = closing as char;
        Err(self.refuse(format!(
            "found {} where `,` or `{close}` should be",
            shown(found)
        )))
    }

    /// After an opening byte: is there an element at all? Consumes the closing byte if not.
    pub fn first(&mut self, closing: u8) -> Result<bool, TraceError> {
        if self.peek_some("an element or the end of a list")? == closing {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    pub fn string(&mut self) -> Result<String, TraceError> {
        self.expect(b'"')?;
        let mut raw = vec![b'"'];
        loop {
            let byte = self.in_string()?;
            raw.push(byte);
            if byte == b'"' {
                break;
            }
            if byte == b'\\' {
                let escaped = self.in_string()?;
                raw.push(escaped);
            }
            if raw.len() > STRING_BYTES_MAX {
                return Err(
                    self.refuse(format!("a string is longer than {STRING_BYTES_MAX} bytes"))
                );
            }
        }
        serde_json::from_slice(&raw).map_err(|error| self.refuse(format!("bad string: {error}")))
    }

    fn in_string(&mut self) -> Result<u8, TraceError> {
        match self.byte()? {
            Some(b'\n') => Err(self.refuse("a string runs over the end of its line")),
            Some(byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.refuse("the file ends inside a string")),
        }
    }

    /// A finite number. Python writes `NaN` and `Infinity`: refused by name.
    pub fn number(&mut self) -> Result<f64, TraceError> {
        let first = self.peek_some("a number")?;
        if !matches!(first, b'-' | b'0'..=b'9') {
            return Err(self.not_a_number(first));
        }
        if let Some(value) = self.short_integer() {
            return Ok(value);
        }
        let mut text = [0_u8; NUMBER_BYTES_MAX];
        let mut len = 0;
        while let Some(byte @ (b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) = self.byte()? {
            if len == NUMBER_BYTES_MAX {
                return Err(self.refuse("a number is too long"));
            }
            text[len] = byte;
            len += 1;
            self.at += 1;
        }
        let text = core::str::from_utf8(&text[..len]).expect("only ASCII was copied");
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(self.refuse(format!("`{text}` is no finite number"))),
            Err(_) if text == "-" && self.byte()? == Some(b'I') => Err(self.not_a_number(b'I')),
            Err(_) => Err(self.refuse(format!("`{text}` is no number"))),
        }
    }

    fn not_a_number(&mut self, first: u8) -> TraceError {
        match first {
            b'N' => self.refuse("NaN is no number a trace can use"),
            b'I' => self.refuse("Infinity is no number a trace can use"),
            other => self.refuse(format!("found {} where a number should be", shown(other))),
        }
    }

    /// Up to 15 digits that lie whole in the buffer: the common case, and exact in an f64.
    fn short_integer(&mut self) -> Option<f64> {
        let rest = &self.buffer[self.at..self.len];
        let mut value = 0_u64;
        for (digits, &byte) in rest.iter().take(16).enumerate() {
            match byte {
                b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
                b',' | b']' | b' ' if digits > 0 => {
                    self.at += digits;
                    return Some(value as f64);
                }
                _ => return None,
            }
        }
        None
    }

    /// Skips one value, whatever it is.
    pub fn skip(&mut self) -> Result<(), TraceError> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Result<(), TraceError> {
        if depth == DEPTH_MAX {
            return Err(self.refuse(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        match self.peek_some("a value")? {
            b'{' => {
                self.at += 1;
                let mut more = self.first(b'}')?;
                while more {
                    self.string()?;
                    self.expect(b':')?;
                    self.skip_at(depth + 1)?;
                    more = self.another(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                self.at += 1;
                let mut more = self.first(b']')?;
                while more {
                    self.skip_at(depth + 1)?;
                    more = self.another(b']')?;
                }
                Ok(())
            }
            b'"' => self.string().map(|_| ()),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(|_| ()),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), TraceError> {
        for wanted in word.bytes() {
            if self.byte()? != Some(wanted) {
                return Err(self.refuse(format!("found no `{word}` where one began")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// One line as bytes, without its end; `None` at the end of the file.
    pub fn text_line(&mut self, line_bytes_max: usize) -> Result<Option<Vec<u8>>, TraceError> {
        let mut line = Vec::new();
        loop {
            if self.byte()?.is_none() {
                self.line += u64::from(!line.is_empty());
                self.is_cut |= !line.is_empty();
                return Ok(if line.is_empty() { None } else { Some(line) });
            }
            let rest = &self.buffer[self.at..self.len];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(rest.len());
            if line.len() + taken > line_bytes_max {
                return Err(self.refuse(format!("a line is longer than {line_bytes_max} bytes")));
            }
            line.extend_from_slice(&rest[..taken]);
            self.at += taken;
            if end.is_some() {
                self.at += 1;
                self.line += 1;
                return Ok(Some(line));
            }
        }
    }
}

fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() {
        format!("`{}`", byte as char)
    } else {
        format!("byte 0x{byte:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(text: &str) -> Lexer {
        Lexer::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them() {
        for text in [
            "0",
            "25",
            "123456789012345",
            "1234567890123456789",
            "0.1",
            "-3.5e2",
            "1e-7",
        ] {
            let mut lexer = over(&format!("{text}]"));
            assert_eq!(
                lexer.number().unwrap().to_bits(),
                text.parse::<f64>().unwrap().to_bits()
            );
            assert_eq!(lexer.byte().unwrap(), Some(b']'));
        }
    }

    #[test]
    fn a_number_over_the_edge_of_the_buffer_is_whole() {
        for pad in BUFFER_BYTES - 4..=BUFFER_BYTES + 1 {
            let mut lexer = over(&format!("{}12345 ,", " ".repeat(pad)));
            assert_eq!(lexer.number().unwrap().to_bits(), 12_345_f64.to_bits());
        }
    }

    #[test]
    fn what_python_writes_for_no_number_is_refused_by_name() {
        for (text, why) in [
            ("NaN", "NaN"),
            ("Infinity", "Infinity"),
            ("-Infinity", "Infinity"),
        ] {
            let error = over(text).number().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(over("1e999").number().is_err());
        assert!(over("1-2").number().is_err());
    }

    #[test]
    fn lines_are_counted_and_skipping_reads_one_value() {
        let mut lexer = over("\n{\"a\":\n [1, {\"b\": null}, \"x\\\"]\"], \"c\": true}\n7");
        lexer.skip().unwrap();
        assert_eq!(lexer.line(), 3);
        assert_eq!(lexer.number().unwrap().to_bits(), 7_f64.to_bits());
        assert_eq!(lexer.line(), 4);
        assert_eq!(lexer.peek().unwrap(), None);
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(
            over(&"[".repeat(100_000))
                .skip()
                .unwrap_err()
                .to_string()
                .contains("nested")
        );
    }
}
