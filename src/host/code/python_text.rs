//! Is it Python text? Told by all of it: a single file is taken as it is, so whoever uploaded a
//! picture, or text of another encoding, should hear so at once and not from the first call.
//!
//! As Python reads its sources (PEP 263): UTF-8, unless one of the first two lines is a comment
//! that names another encoding, which must be one that Python has; and no NUL anywhere.

use std::io::{self, Read};

/// Within these an encoding may be named.
const HEAD_BYTES: u64 = 8 * 1024;
/// What is looked at in one step.
const PIECE_BYTES: usize = 64 * 1024;
/// What an unknown encoding is shown of.
const NAME_CHARS_MAX: usize = 40;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How the encoding of Unicode text is called, in the spelling of `squeezed`.
const UTF_8: &str = "cp65001 u8 utf utf8 utf8sig utf8ucs2 utf8ucs4";
/// What else CPython can read sources in, in the spelling of `squeezed`.
const OTHERS: &str = "\
    1125 1250 1251 1252 1253 1254 1255 1256 1257 1258 437 646 775 850 852 855 857 858 860 861 862 \
    863 864 865 866 869 8859 932 936 949 950 ansix341968 ansix341986 arabic ascii asmo708 big5 \
    big5hkscs big5tw charmap chinese cp1006 cp1051 cp1125 cp1250 cp1251 cp1252 cp1253 cp1254 \
    cp1255 cp1256 cp1257 cp1258 cp1361 cp154 cp367 cp437 cp720 cp737 cp775 cp819 cp850 cp852 cp855 \
    cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp866u cp869 cp874 cp932 cp936 \
    cp949 cp950 cpgr cpis csascii csbig5 csibm855 csibm857 csibm858 csibm860 csibm861 csibm863 \
    csibm864 csibm865 csibm866 csibm869 csiso2022jp csiso2022kr csiso58gb231280 csisolatin1 \
    csisolatin2 csisolatin3 csisolatin4 csisolatin5 csisolatin6 csisolatinarabic \
    csisolatincyrillic csisolatingreek csisolatinhebrew cskoi8r cspc775baltic cspc850multilingual \
    cspc862latinhebrew cspc8codepage437 cspcp852 csptcp154 csshiftjis cyrillic cyrillicasian \
    ecma114 ecma118 elot928 euccn eucgb2312cn eucjis2004 eucjisx0213 eucjp euckr gb18030 \
    gb180302000 gb2312 gb23121980 gb231280 gbk greek greek8 hebrew hkscs hproman8 hz hzgb hzgb2312 \
    ibm1051 ibm1125 ibm367 ibm437 ibm775 ibm819 ibm850 ibm852 ibm855 ibm857 ibm858 ibm860 ibm861 \
    ibm862 ibm863 ibm864 ibm865 ibm866 ibm869 iso2022jp iso2022jp1 iso2022jp2 iso2022jp2004 \
    iso2022jp3 iso2022jpext iso2022kr iso646irv1991 iso646us iso8859 iso88591 iso885910 \
    iso8859101992 iso885911 iso8859112001 iso885911987 iso885913 iso885914 iso8859141998 iso885915 \
    iso885916 iso8859162001 iso88592 iso885921987 iso88593 iso885931988 iso88594 iso885941988 \
    iso88595 iso885951988 iso88596 iso885961987 iso88597 iso885971987 iso88598 iso885981988 \
    iso88599 iso885991989 isoceltic isoir100 isoir101 isoir109 isoir110 isoir126 isoir127 isoir138 \
    isoir144 isoir148 isoir157 isoir166 isoir199 isoir226 isoir58 isoir6 jisx0213 johab koi8r \
    koi8t koi8u korean ksc5601 ksc56011987 ksx1001 kz1048 l1 l10 l2 l3 l4 l5 l6 l7 l8 l9 latin \
    latin1 latin10 latin2 latin3 latin4 latin5 latin6 latin7 latin8 latin9 macarabic maccenteuro \
    maccentraleurope maccroatian maccyrillic macfarsi macgreek maciceland macintosh maclatin2 \
    macroman macromanian macturkish ms1361 ms932 ms936 ms949 ms950 mskanji palmos pt154 ptcp154 r8 \
    rk1048 roman8 ruscii shiftjis shiftjis2004 shiftjisx0213 sjis sjis2004 sjisx0213 strk10482002 \
    thai tis620 tis6200 tis62025290 tis62025291 u7 uhc ujis unicode11utf7 us usascii utf7 \
    windows1250 windows1251 windows1252 windows1253 windows1254 windows1255 windows1256 \
    windows1257 windows1258 xmacjapanese xmackorean xmacsimpchinese xmactradchinese";

/// Could a file that begins so be text at all? Whether it is Python's, `fault` says.
pub(super) fn may_begin_with(start: &[u8]) -> bool {
    let is_text = |byte: &u8| match byte {
        b'\n' | b'\r' | b'\t' | b'\x0c' => true,
        byte => *byte >= b' ' && *byte != 0x7f,
    };
    !start.is_empty() && start.iter().all(is_text)
}

/// Why Python would not read this as a source, if it would not.
pub(super) fn fault(text: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    text.take(HEAD_BYTES).read_to_end(&mut head)?;
    let wants_utf8 = match encoding_named(&head) {
        None => true,
        Some((name, line)) => {
            let name = squeezed(name);
            let is_among = |names: &str| names.split(' ').any(|known| known == name);
            let is_utf8 = is_among(UTF_8);
            if !is_utf8 && !is_among(OTHERS) {
                let name: String = name.chars().take(NAME_CHARS_MAX).collect();
                return Ok(Some(format!(
                    "line {line} names an encoding that Python does not know: {name}"
                )));
            }
            if !is_utf8 && head.starts_with(BYTE_ORDER_MARK) {
                return Ok(Some(format!(
                    "it begins as UTF-8 does (a byte order mark), but line {line} names {name}"
                )));
            }
            is_utf8
        }
    };
    Reading {
        wants_utf8,
        line: 1,
        rest: Vec::new(),
    }
    .all(&mut head.as_slice().chain(text))
}

/// A text that is looked at in pieces.
struct Reading {
    wants_utf8: bool,
    line: usize,
    /// Not looked at yet; between two pieces the beginning of a character.
    rest: Vec<u8>,
}

impl Reading {
    fn all(mut self, text: &mut impl Read) -> io::Result<Option<String>> {
        loop {
            let count = text.take(PIECE_BYTES as u64).read_to_end(&mut self.rest)?;
            if count == 0 {
                return Ok((!self.rest.is_empty()).then(|| self.no_utf8()));
            }
            if let Some(fault) = self.piece() {
                return Ok(Some(fault));
            }
        }
    }

    fn piece(&mut self) -> Option<String> {
        if let Some(at) = self.rest.iter().position(|byte| *byte == 0) {
            self.line += newlines(&self.rest[..at]);
            return Some(format!(
                "line {} holds a NUL byte (is it Python text?)",
                self.line
            ));
        }
        let (good, is_bad) = match core::str::from_utf8(&self.rest) {
            Err(error) if self.wants_utf8 => (error.valid_up_to(), error.error_len().is_some()),
            _ => (self.rest.len(), false),
        };
        self.line += newlines(&self.rest[..good]);
        self.rest.drain(..good);
        is_bad.then(|| self.no_utf8())
    }

    fn no_utf8(&self) -> String {
        format!(
            "line {} is not UTF-8 (save it as UTF-8, or name its encoding in the first line: \
             # coding: latin-1)",
            self.line
        )
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// The encoding that a text names, and in which line.
fn encoding_named(head: &[u8]) -> Option<(&str, u32)> {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    if let Some(name) = named_in(first) {
        return Some((name, 1));
    }
    // Behind code it would be a comment like any other.
    let is_code = first
        .iter()
        .find(|byte| !is_blank(**byte))
        .is_some_and(|byte| !matches!(byte, b'#' | b'\r'));
    if is_code {
        return None;
    }
    Some((named_in(lines.next()?)?, 2))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

/// `# -*- coding: latin-1 -*-`, `# vim: set fileencoding=latin-1 :`
fn named_in(line: &[u8]) -> Option<&str> {
    const WORD: &[u8] = b"coding";
    let start = line.iter().position(|byte| !is_blank(*byte))?;
    let comment = line[start..].strip_prefix(b"#")?;
    for at in 0..comment.len() {
        let Some([b':' | b'=', value @ ..]) = comment[at..].strip_prefix(WORD) else {
            continue;
        };
        let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
        let value = &value[blanks.count()..];
        let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        let name = &value[..value.iter().take_while(is_name).count()];
        if !name.is_empty() {
            return core::str::from_utf8(name).ok();
        }
    }
    None
}

/// `ISO_8859-1` as `iso88591`.
fn squeezed(name: &str) -> String {
    let kept = name.chars().filter(char::is_ascii_alphanumeric);
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &[u8]) -> String {
        fault(&mut &*text).unwrap().unwrap_or_default()
    }

    #[test]
    fn python_text_is_taken() {
        for text in [
            &b"def f(event):\n    return 1\n"[..],
            "\u{feff}# gr\u{fc}\u{df}e\nx = '\u{1f600}'".as_bytes(),
            b"# coding: latin-1\nx = '\xe9'\n",
            b"#!/usr/bin/python3\n# -*- coding: ISO_8859-15 -*-\nx = '\xe9'\n",
            b"\n \t# vim: set fileencoding=cp1252 :\r\nx = '\xe9'",
            b"# encoding:\tSHIFT_JIS\nx = '\x83\x5c'",
            b"# -*- coding: utf-8 -*-\n",
        ] {
            assert!(may_begin_with(text), "{text:?}");
            assert_eq!(faults(text), "", "{text:?}");
        }
    }

    #[test]
    fn what_python_would_not_read_is_told_with_its_line() {
        let mut late = b"x = 1\n".repeat(40_000);
        late.extend_from_slice(b"y = '\0'\n");
        let mut cut = b"x = 1\n".repeat(20_000);
        cut.extend_from_slice(b"# \xe2\x82");
        for (text, why) in [
            (&late[..], "line 40001 holds a NUL byte"),
            (&cut[..], "line 20001 is not UTF-8"),
            (b"a = 1\nb = '\xe9'\n", "line 2 is not UTF-8"),
            (b"# coding: utf8\nb = '\xe9'\n", "line 2 is not UTF-8"),
            (b"x = 1\n# coding: latin-1\n# \xe9", "line 3 is not UTF-8"),
            (b"#\n#\n# coding: latin-1\n# \xe9", "line 4 is not UTF-8"),
            (
                b"# coding: klingon\n",
                "line 1 names an encoding that Python does not know: klingon",
            ),
            (b"# coding: utf-16\n", "does not know: utf16"),
            (
                b"\xef\xbb\xbf# coding: latin-1\n",
                "but line 1 names latin1",
            ),
        ] {
            let told = faults(text);
            assert!(told.contains(why), "{why}: {told}");
        }
    }

    #[test]
    fn characters_may_lie_across_pieces() {
        for shift in 0..4 {
            let mut text = vec![b'#'; PIECE_BYTES - HEAD_BYTES as usize - shift];
            text.extend("\u{1f600}".repeat(PIECE_BYTES).bytes());
            assert_eq!(faults(&text), "");
        }
    }

    #[test]
    fn what_begins_otherwise_is_none() {
        for start in [
            &b""[..],
            b"\x7fELF\x02\x01",
            b"\x89PNG\r\n\x1a\n",
            b"x\0y",
            "gr\u{fc}n\x01".as_bytes(),
            b"\xff\xfex\0",
        ] {
            assert!(!may_begin_with(start), "{start:?}");
        }
        assert!(may_begin_with(b"caf\xe9"));
        assert!(faults(b"caf\xe9").contains("line 1 is not UTF-8"));
    }
}
