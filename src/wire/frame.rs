//! The eight bytes before each payload of a stream, the bounds of payloads, and what can be wrong.

use core::fmt;

pub const HEADER_BYTES: usize = 8;

/// The longest payload of one frame, either way. Longer bodies take several frames.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a sender should put in one body frame: enough to hide the cost of a system call, little
/// enough to stay in the cache and below the socket's buffer.
pub const BODY_BYTES_GOOD: usize = 64 << 10;

/// The head of a call: request line and headers as the worker's own limits let them in.
pub const CALL_HEAD_BYTES_MAX: usize = 512 << 10;

/// The head of an answer. The peer is user code.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;

/// Headers of one answer.
pub const ANSWER_HEADERS_MAX: usize = 256;

/// Exception, traceback and their lengths.
pub const FAILURE_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(CALL_HEAD_BYTES_MAX + BODY_BYTES_GOOD < FRAME_BYTES_MAX);
const _: () = assert!(ANSWER_HEAD_BYTES_MAX < FRAME_BYTES_MAX);

/// The body ends with this frame.
pub const FLAG_LAST: u8 = 1;
/// The answer is over, user code is not: an `Idle` frame follows. Only with `FLAG_LAST`.
pub const FLAG_BUSY: u8 = 2;
/// The instance asks not to be used again. Only where the call ends.
pub const FLAG_TAINTED: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Call = 0x01,
    Body = 0x02,
    Cancel = 0x03,
    Answer = 0x81,
    Data = 0x82,
    Failure = 0x83,
    Idle = 0x84,
}

impl FrameKind {
    pub const fn from_byte(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte {
            0x01 => Self::Call,
            0x02 => Self::Body,
            0x03 => Self::Cancel,
            0x81 => Self::Answer,
            0x82 => Self::Data,
            0x83 => Self::Failure,
            0x84 => Self::Idle,
            _ => return Err(FrameError::UnknownKind(byte)),
        })
    }

    const fn flags_allowed(self) -> u8 {
        match self {
            Self::Call | Self::Body => FLAG_LAST,
            Self::Cancel => 0,
            Self::Answer | Self::Data => FLAG_LAST | FLAG_BUSY | FLAG_TAINTED,
            Self::Failure | Self::Idle => FLAG_TAINTED,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub flags: u8,
    pub length: usize,
}

impl FrameHeader {
    pub const fn encode(self) -> [u8; HEADER_BYTES] {
        assert!(
            self.length <= FRAME_BYTES_MAX,
            "senders split what is longer than a frame"
        );
        let length = (self.length as u32).to_le_bytes();
        [
            length[0],
            length[1],
            length[2],
            length[3],
            self.kind as u8,
            self.flags,
            0,
            0,
        ]
    }

    pub const fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let kind = match FrameKind::from_byte(bytes[4]) {
            Ok(kind) => kind,
            Err(error) => return Err(error),
        };
        let flags = bytes[5];
        if bytes[6] != 0 || bytes[7] != 0 {
            return Err(FrameError::ReservedUsed);
        }
        if flags & !kind.flags_allowed() != 0 {
            return Err(FrameError::BadFlags(flags));
        }
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong {
                bytes: length,
                bytes_max: FRAME_BYTES_MAX,
            });
        }
        Ok(Self {
            kind,
            flags,
            length,
        })
    }

    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Why bytes are no frame, or a frame does not belong here. The peer has broken the protocol and
/// is not spoken to again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    UnknownKind(u8),
    BadFlags(u8),
    ReservedUsed,
    TooLong {
        bytes: usize,
        bytes_max: usize,
    },
    /// The payload is shorter than what it says it holds.
    Truncated,
    /// A payload where there must be none, or bytes after its end.
    Surplus(usize),
    /// A known kind that does not belong at this point of the conversation.
    OutOfOrder(FrameKind),
    BadStatus(u16),
    BadHeaderName,
    BadHeaderValue,
    TooManyHeaders,
    UnknownFailure(u16),
    /// A text to be sent holds a NUL byte (which separates texts), or is empty in a list.
    BadText,
    NotUtf8,
    /// Descriptors announced and descriptors received differ.
    WrongDescriptors {
        announced: usize,
        received: usize,
    },
    UnknownValue(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "frame of unknown kind {kind:#04x}"),
            Self::BadFlags(flags) => write!(f, "flags {flags:#04x} do not belong to this frame"),
            Self::ReservedUsed => f.write_str("reserved bytes of a frame are not zero"),
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "{bytes} bytes where at most {bytes_max} are allowed")
            }
            Self::Truncated => f.write_str("frame shorter than what it says it holds"),
            Self::Surplus(bytes) => write!(f, "{bytes} bytes too many in a frame"),
            Self::OutOfOrder(kind) => write!(f, "frame {kind:?} at the wrong moment"),
            Self::BadStatus(status) => write!(f, "{status} is no status of a final answer"),
            Self::BadHeaderName => f.write_str("header name is no token"),
            Self::BadHeaderValue => f.write_str("header value holds a control character"),
            Self::TooManyHeaders => f.write_str("too many headers"),
            Self::UnknownFailure(code) => write!(f, "unknown failure {code}"),
            Self::BadText => f.write_str("text holds a NUL byte, or is empty where it must not be"),
            Self::NotUtf8 => f.write_str("text is not UTF-8"),
            Self::WrongDescriptors {
                announced,
                received,
            } => {
                write!(f, "{announced} descriptors announced, {received} received")
            }
            Self::UnknownValue(value) => write!(f, "{value} means nothing here"),
        }
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_trip() {
        let header = FrameHeader {
            kind: FrameKind::Data,
            flags: FLAG_LAST,
            length: 70_000,
        };
        assert_eq!(FrameHeader::decode(header.encode()), Ok(header));
    }

    #[test]
    fn every_malformed_header_has_its_error() {
        let decode = |bytes| FrameHeader::decode(bytes).unwrap_err();
        assert_eq!(
            decode([0, 0, 0, 0, 0x7f, 0, 0, 0]),
            FrameError::UnknownKind(0x7f)
        );
        assert_eq!(decode([0, 0, 0, 0, 0x82, 8, 0, 0]), FrameError::BadFlags(8));
        assert_eq!(decode([0, 0, 0, 0, 0x03, 1, 0, 0]), FrameError::BadFlags(1));
        assert_eq!(
            decode([0, 0, 0, 0, 0x82, 0, 0, 1]),
            FrameError::ReservedUsed
        );
        let long = FrameError::TooLong {
            bytes: 1 << 24,
            bytes_max: FRAME_BYTES_MAX,
        };
        assert_eq!(decode([0, 0, 0, 1, 0x82, 0, 0, 0]), long);
    }
}
