//! Signature Version 4 of AWS, for requests without a body.
//!
//! ```text
//!   method, path, query, headers ── canonical request ── SHA-256 ─┐
//!   secret ── HMAC(date) ── HMAC(region) ── HMAC(service) ── key ─┴── HMAC ──▶ Authorization
//! ```

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// SHA-256 of nothing: the body of every request here.
pub(super) const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const BLOCK_BYTES: usize = 64;

/// Who asks.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

/// A GET that is to be signed.
pub(super) struct Get<'a> {
    /// Encoded already.
    pub(super) path: &'a str,
    /// As `query` makes it.
    pub(super) query: &'a str,
    /// By name, in small letters.
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `20261128T114500Z`
    pub(super) stamp: &'a str,
}

impl Get<'_> {
    /// The value of `Authorization`.
    pub(super) fn authorization(&self, credentials: &Credentials) -> String {
        let date = &self.stamp[.."20261128".len()];
        let mut lines = String::new();
        for (name, value) in self.headers {
            let _ = writeln!(lines, "{name}:{}", value.trim());
        }
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let (path, query) = (self.path, self.query);
        let request = format!("GET\n{path}\n{query}\n{lines}\n{names}\n{EMPTY}");
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", self.stamp);
        let mut key = hmac(
            format!("AWS4{}", credentials.secret).as_bytes(),
            date.as_bytes(),
        );
        for part in [self.region, self.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            credentials.id,
            hex(&hmac(&key, to_sign.as_bytes()))
        )
    }
}

/// A query, as it is signed and as it is sent: encoded, by name.
pub(super) fn query(parts: &[(&str, &[u8])]) -> String {
    let mut parts: Vec<_> = parts
        .iter()
        .map(|(name, value)| (encoded(name, false), encoded(value, false)))
        .collect();
    parts.sort_unstable();
    let parts: Vec<_> = parts
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parts.join("&")
}

/// As SigV4 wants paths: everything but unreserved characters in percent.
pub(super) fn encoded(text: impl AsRef<[u8]>, keeps_slashes: bool) -> String {
    let mut out = String::new();
    for &byte in text.as_ref() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keeps_slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        for (key, message, digest) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(&hmac(key, message)), digest);
        }
    }

    /// What `Authorization` ends with.
    fn signature(get: &Get<'_>, secret: &str) -> String {
        let credentials = Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            secret: secret.to_owned(),
            token: None,
        };
        let authorization = get.authorization(&credentials);
        authorization.rsplit('=').next().unwrap().to_owned()
    }

    /// Of the suite that AWS published for those who write signers.
    #[test]
    fn requests_of_the_test_suite_have_the_signatures_it_tells() {
        let stamp = "20150830T123600Z";
        let two = query(&[("Param2", b"value2"), ("Param1", b"value1")]);
        for (query, wanted) in [
            (
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                two.as_str(),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let get = Get {
                path: "/",
                query,
                headers: &[
                    ("host", "example.amazonaws.com".to_owned()),
                    ("x-amz-date", stamp.to_owned()),
                ],
                region: "us-east-1",
                service: "service",
                stamp,
            };
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            assert_eq!(signature(&get, secret), wanted, "{query}");
        }
    }

    /// Of the documentation of S3: an object's first bytes, a bucket's life cycle, its list.
    #[test]
    fn the_examples_of_s3_have_the_signatures_it_tells() {
        let stamp = "20130524T000000Z";
        let list = query(&[("prefix", b"J"), ("max-keys", b"2")]);
        for (path, query, range, wanted) in [
            (
                "/test.txt",
                "",
                Some("bytes=0-9"),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "/",
                "lifecycle=",
                None,
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "/",
                list.as_str(),
                None,
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let mut headers = vec![("host", "examplebucket.s3.amazonaws.com".to_owned())];
            headers.extend(range.map(|range| ("range", range.to_owned())));
            headers.push(("x-amz-content-sha256", EMPTY.to_owned()));
            headers.push(("x-amz-date", stamp.to_owned()));
            let get = Get {
                path,
                query,
                headers: &headers,
                region: "us-east-1",
                service: "s3",
                stamp,
            };
            let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
            assert_eq!(signature(&get, secret), wanted, "{path}?{query}");
        }
    }

    #[test]
    fn queries_are_encoded_and_in_order() {
        let parts: [(&str, &[u8]); 3] = [
            ("prefix", b"a b/\xc3\xa9"),
            ("list-type", b"2"),
            ("a+", b""),
        ];
        assert_eq!(query(&parts), "a%2B=&list-type=2&prefix=a%20b%2F%C3%A9");
    }
}
