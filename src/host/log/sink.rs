//! What the three sinks have in common: what became of a record, levels, the bound of its length.

use log::Level;
use rustix::io::Errno;

/// The longest text of one record; what is beyond is cut off, and that is said in it.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Stands where a text was cut off.
const CUT_NOTE: &str = " [cut]";

/// What a sink did with the bytes it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It is out.
    Whole,
    /// So many bytes of it are out (none: the sink is full or away); offer the rest later.
    Later(usize),
    /// It can never be sent: count it and go on.
    Never,
}

impl Sent {
    /// Full, away and restarting pass by themselves; everything else would stay.
    pub fn from_error(why: Errno) -> Self {
        match why {
            Errno::AGAIN
            | Errno::NOBUFS
            | Errno::INTR
            | Errno::CONNREFUSED
            | Errno::NOTCONN
            | Errno::NOENT => Self::Later(0),
            _ => Self::Never,
        }
    }
}

/// As syslog numbers them; there is no level between `info` and `warn`.
pub fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Cuts the text at the bound, between characters.
pub fn cut(text: &mut String) {
    if text.len() <= RECORD_BYTES_MAX {
        return;
    }
    text.truncate(text.floor_char_boundary(RECORD_BYTES_MAX - CUT_NOTE.len()));
    text.push_str(CUT_NOTE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut text = "ä".repeat(RECORD_BYTES_MAX);
        cut(&mut text);
        assert!(text.len() <= RECORD_BYTES_MAX);
        assert!(text.ends_with("ä [cut]"));
        let mut short = "short".to_owned();
        cut(&mut short);
        assert_eq!(short, "short");
    }
}
