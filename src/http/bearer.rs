//! The token of `Authorization: Bearer`, compared without telling how much of it was right.

/// The token in an Authorization field's value.
pub fn token(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let start = rest.iter().position(|byte| *byte != b' ')?;
    (start > 0).then_some(&rest[start..])
}

const SCHEME: &[u8] = b"bearer";

/// Are they equal? Takes as long for the last byte being wrong as for the first; only the length
/// of the secret can be seen.
pub fn matches(secret: &[u8], given: &[u8]) -> bool {
    if secret.len() != given.len() {
        return false;
    }
    let difference = secret
        .iter()
        .zip(given)
        .fold(0, |all, (a, b)| all | (a ^ b));
    // Keeps the compiler from stopping at the first difference.
    core::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        assert_eq!(token(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(token(b"bEARER   a b"), Some(&b"a b"[..]));
        for bad in [
            &b"Bearer"[..],
            b"Bearer ",
            b"Bearerabc",
            b"Basic abc",
            b"",
            b"Bea",
        ] {
            assert_eq!(token(bad), None);
        }
    }

    #[test]
    fn only_the_secret_matches() {
        assert!(matches(b"secret", b"secret"));
        for wrong in [&b"secreT"[..], b"Secret", b"secre", b"secrets", b""] {
            assert!(!matches(b"secret", wrong));
        }
    }
}
