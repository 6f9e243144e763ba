//! Which bytes may stand where: RFC 9110 section 5.6, RFC 9112, RFC 3986.

/// One bit of a byte's class.
const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;
const QUOTED: u8 = 16;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
}

const fn class(byte: u8) -> u8 {
    let mut class = 0;
    let alphanumeric = byte.is_ascii_alphanumeric();
    if alphanumeric
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
    {
        class |= TOKEN;
    }
    if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
        class |= VALUE;
    }
    if matches!(byte, b'!'..=b'~') && byte != b'#' {
        class |= TARGET;
    }
    if alphanumeric
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
    {
        class |= HOST;
    }
    if matches!(byte, b'\t' | b' ' | b'!' | b'#'..=b'[' | b']'..=b'~' | 0x80..) {
        class |= QUOTED;
    }
    class
}

/// Methods, field names, names of chunk extensions.
pub const fn is_token(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// Field values: visible characters, blanks, tabs, and what is beyond ASCII.
pub const fn is_value(byte: u8) -> bool {
    CLASSES[byte as usize] & VALUE != 0
}

/// Request targets: every visible ASCII character but `#`. Wider than RFC 3986 by a few that need
/// no second reading (quote, backslash, `|`, `^`); they name no endpoint.
pub const fn is_target(byte: u8) -> bool {
    CLASSES[byte as usize] & TARGET != 0
}

/// Registered names: unreserved and sub-delims (percent escapes are checked apart).
pub const fn is_host(byte: u8) -> bool {
    CLASSES[byte as usize] & HOST != 0
}

/// Within a quoted string, unescaped.
pub const fn is_quoted(byte: u8) -> bool {
    CLASSES[byte as usize] & QUOTED != 0
}

/// Blanks that may surround a field value.
pub const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(is: fn(u8) -> bool) -> usize {
        (0..=255).filter(|byte| is(*byte)).count()
    }

    #[test]
    fn classes_have_as_many_members_as_the_grammar_says() {
        assert_eq!(count(is_token), 62 + 15);
        assert_eq!(count(is_value), 1 + 95 + 128);
        assert_eq!(count(is_target), 94 - 1);
        assert_eq!(count(is_host), 66 + 11);
        assert_eq!(count(is_quoted), 1 + 95 + 128 - 2);
    }
}
