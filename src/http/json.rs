//! Strings as JSON writes them, for the few objects the worker makes without a serializer.

use alloc::vec::Vec;

/// Appends `text` in quotes, escaped.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..=0x1f | 0x7f => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
            }
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, mut value: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn what_json_forbids_is_escaped() {
        let mut out = Vec::new();
        string(&mut out, "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}ü/");
        assert_eq!(out, r#""a\"b\\c\n\r\t\u0000\u001f\u007fü/""#.as_bytes());
        let back: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(back, "a\"b\\c\n\r\t\u{0}\u{1f}\u{7f}ü/");
    }

    #[test]
    fn numbers_are_decimal() {
        let mut out = Vec::new();
        for value in [0, 7, 10, u64::MAX] {
            number(&mut out, value);
            out.push(b' ');
        }
        assert_eq!(out, b"0 7 10 18446744073709551615 ");
    }
}
