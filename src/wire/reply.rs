//! What an instance says, written in Rust: a sandbox that fails before Python runs says so with
//! the failure below, and whoever stands in for an instance (tests, benches) speaks with the rest.

use super::answer::{ANSWER_FIXED_BYTES, FAILURE_FIXED_BYTES, FailureCode};
use super::frame::{FAILURE_BYTES_MAX, FLAG_TAINTED, HEADER_BYTES};
use super::text::SEPARATOR;
use super::{FrameHeader, FrameKind};
use alloc::vec::Vec;

/// Appends a failure. Texts too long for the frame are cut at a character's border.
pub fn encode_failure(
    code: FailureCode,
    detail: &str,
    traceback: &str,
    tainted: bool,
    out: &mut Vec<u8>,
) {
    let detail = cut(detail, FAILURE_BYTES_MAX / 4);
    let traceback = cut(
        traceback,
        FAILURE_BYTES_MAX - FAILURE_FIXED_BYTES - detail.len(),
    );
    let length = FAILURE_FIXED_BYTES + detail.len() + traceback.len();
    let flags = if tainted { FLAG_TAINTED } else { 0 };
    out.extend_from_slice(
        &FrameHeader {
            kind: FrameKind::Failure,
            flags,
            length,
        }
        .encode(),
    );
    out.extend_from_slice(&(code as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(detail.len() as u32).to_le_bytes());
    out.extend_from_slice(detail.as_bytes());
    out.extend_from_slice(traceback.as_bytes());
}

/// Appends an answer's head and first body bytes; nothing is checked.
pub fn encode_answer<'h>(
    status: u16,
    headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
    body: &[u8],
    flags: u8,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES + ANSWER_FIXED_BYTES]);
    for (index, (name, value)) in headers.into_iter().enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(name);
        out.push(SEPARATOR);
        out.extend_from_slice(value);
    }
    let head_bytes = out.len() - start - HEADER_BYTES - ANSWER_FIXED_BYTES;
    out.extend_from_slice(body);
    let length = out.len() - start - HEADER_BYTES;
    let header = FrameHeader {
        kind: FrameKind::Answer,
        flags,
        length,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    let fixed = &mut out[start + HEADER_BYTES..];
    fixed[..4].copy_from_slice(&(head_bytes as u32).to_le_bytes());
    fixed[4..6].copy_from_slice(&status.to_le_bytes());
}

/// Appends body bytes.
pub fn encode_data(body: &[u8], flags: u8, out: &mut Vec<u8>) {
    let header = FrameHeader {
        kind: FrameKind::Data,
        flags,
        length: body.len(),
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(body);
}

pub fn encode_idle(tainted: bool, out: &mut Vec<u8>) {
    let flags = if tainted { FLAG_TAINTED } else { 0 };
    out.extend_from_slice(
        &FrameHeader {
            kind: FrameKind::Idle,
            flags,
            length: 0,
        }
        .encode(),
    );
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::{AnswerDecoder, AnswerEvent};
    use super::*;

    #[test]
    fn a_failure_of_any_length_fits_its_frame() {
        let text = "é".repeat(FAILURE_BYTES_MAX);
        let mut out = Vec::new();
        encode_failure(FailureCode::SandboxFailed, &text, &text, true, &mut out);
        let mut decoder = AnswerDecoder::new();
        decoder.call_sent();
        let step = decoder.decode(&out).unwrap();
        assert_eq!(step.used, out.len());
        let Some(AnswerEvent::Failed(failure)) = step.event else {
            panic!("no failure")
        };
        assert_eq!(failure.detail.len(), FAILURE_BYTES_MAX / 4);
        assert!(text.starts_with(failure.traceback) && !failure.traceback.is_empty());
    }
}
