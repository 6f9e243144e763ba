//! Requests to S3, signed as AWS Signature Version 4 wants it: only reading, only what that takes.
//!
//! ```text
//!   method, path, query, headers ── canonical request ── SHA-256 ─┐
//!   secret ── HMAC(date) ── HMAC(region) ── HMAC("s3") ── key ────┴── HMAC ──▶ Authorization
//! ```
//!
//! Credentials come from systemd (`LoadCredential=s3-access-key-id` and so on, the safer place) or
//! from the environment under the names that every tool of AWS knows; without any, requests are
//! anonymous, as a public bucket wants them. `AWS_ENDPOINT_URL` leads to another server than
//! Amazon's, which is then addressed by path.

use crate::host::log::Moment;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// SHA-256 of nothing: the body of every request here.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const BLOCK_BYTES: usize = 64;
/// A key or a token.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Who asks.
#[derive(Clone)]
struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

/// A bucket, or a part of one.
#[derive(Clone)]
pub struct Bucket {
    /// `https://host[:port]`.
    origin: String,
    host: String,
    /// What stands before every key, from the first `/` on.
    prefix: String,
    region: String,
    credentials: Option<Credentials>,
}

impl core::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

/// A request that can be sent.
#[derive(Debug)]
pub struct Signed {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
}

impl Bucket {
    /// `s3://bucket/prefix`, with what systemd and the environment say of the rest.
    pub fn open(url: &str) -> io::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = from_systemd()?.or_else(|| {
            Some(Credentials {
                id: variable("AWS_ACCESS_KEY_ID")?,
                secret: variable("AWS_SECRET_ACCESS_KEY")?,
                token: variable("AWS_SESSION_TOKEN"),
            })
        });
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        Ok(Self::new(url, region, endpoint.as_deref(), credentials))
    }

    fn new(
        url: &str,
        region: String,
        endpoint: Option<&str>,
        credentials: Option<Credentials>,
    ) -> Self {
        let rest = url
            .strip_prefix("s3://")
            .unwrap_or(url)
            .trim_end_matches('/');
        let (bucket, inner) = rest.split_once('/').unwrap_or((rest, ""));
        let inner = if inner.is_empty() {
            "/".to_owned()
        } else {
            // A URL has blanks in percent already; signatures want their own way of it.
            format!("/{}/", encoded(decoded(inner), true))
        };
        let (origin, prefix) = match endpoint {
            Some(endpoint) => {
                let origin = endpoint.trim_end_matches('/').to_owned();
                (origin, format!("/{}{inner}", encoded(bucket, false)))
            }
            None => (format!("https://{bucket}.s3.{region}.amazonaws.com"), inner),
        };
        let host = origin
            .split_once("://")
            .map_or("", |(_, host)| host)
            .to_owned();
        Self {
            origin,
            host,
            prefix,
            region,
            credentials,
        }
    }

    /// The request for one object; `now` since 1970.
    pub fn get(&self, key: &str, now: Duration) -> Signed {
        let path = format!("{}{}", self.prefix, encoded(key, false));
        let url = format!("{}{path}", self.origin);
        let Some(credentials) = &self.credentials else {
            return Signed {
                url,
                headers: Vec::new(),
            };
        };
        // 2026-11-28T11:45:00.000Z as 20261128T114500Z.
        let moment = Moment(now).to_string();
        let mut stamp: String = moment.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        stamp.truncate("20261128T114500".len());
        stamp.push('Z');
        let mut headers = vec![
            ("host", self.host.clone()),
            ("x-amz-content-sha256", EMPTY.to_owned()),
            ("x-amz-date", stamp.clone()),
        ];
        if let Some(token) = &credentials.token {
            headers.push(("x-amz-security-token", token.clone()));
        }
        let authorization = self.authorization(credentials, &path, &stamp, &headers);
        // The client writes this one itself, from the URL.
        headers.remove(0);
        headers.push(("authorization", authorization));
        Signed { url, headers }
    }

    fn authorization(
        &self,
        credentials: &Credentials,
        path: &str,
        stamp: &str,
        headers: &[(&str, String)],
    ) -> String {
        let date = &stamp[.."20261128".len()];
        let mut lines = String::new();
        for (name, value) in headers {
            let _ = writeln!(lines, "{name}:{}", value.trim());
        }
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let request = format!("GET\n{path}\n\n{lines}\n{names}\n{EMPTY}");
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
        let mut key = hmac(
            format!("AWS4{}", credentials.secret).as_bytes(),
            date.as_bytes(),
        );
        for part in [self.region.as_str(), "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            credentials.id,
            hex(&hmac(&key, to_sign.as_bytes()))
        )
    }
}

/// What the service manager keeps for this service alone.
fn from_systemd() -> io::Result<Option<Credentials>> {
    let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    let read = |name: &str| read_secret(&Path::new(&directory).join(name));
    let (id, secret) = (read("s3-access-key-id")?, read("s3-secret-access-key")?);
    let (Some(id), Some(secret)) = (id, secret) else {
        return Ok(None);
    };
    Ok(Some(Credentials {
        id,
        secret,
        token: read("s3-session-token")?,
    }))
}

fn read_secret(path: &Path) -> io::Result<Option<String>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text.trim().to_owned()))
}

/// As SigV4 wants paths: everything but unreserved characters in percent.
fn encoded(text: impl AsRef<[u8]>, keeps_slashes: bool) -> String {
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

/// Percents undone where they are some.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind
            .get(..2)
            .and_then(|digits| core::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (b'%', Some(byte)) = (first, byte) {
            out.push(byte);
            rest = &behind[2..];
        } else {
            out.push(*first);
            rest = behind;
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

    fn bucket(url: &str, endpoint: Option<&str>) -> Bucket {
        let credentials = Credentials {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        Bucket::new(url, "us-east-1".to_owned(), endpoint, Some(credentials))
    }

    #[test]
    fn keys_are_found_by_host_or_by_path() {
        let now = Duration::from_hours(480_000);
        let url = |bucket: &Bucket| bucket.get("f+1.py", now).url;
        assert_eq!(
            url(&bucket("s3://code/a%20b/c/", None)),
            "https://code.s3.us-east-1.amazonaws.com/a%20b/c/f%2B1.py"
        );
        assert_eq!(
            url(&bucket("s3://code", Some("http://127.0.0.1:9000/"))),
            "http://127.0.0.1:9000/code/f%2B1.py"
        );
    }

    /// The example of AWS's own documentation, less its Range header.
    #[test]
    fn a_request_carries_its_signature_and_no_secret() {
        let bucket = bucket("s3://examplebucket", None);
        let signed = bucket.get("test.txt", Duration::from_hours(379_872));
        let header = |wanted: &str| {
            let mut headers = signed.headers.iter();
            headers
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(header("x-amz-date"), Some("20130503T000000Z"));
        let authorization = header("authorization").unwrap();
        assert!(authorization.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130503/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
        ));
        assert!(!format!("{signed:?} {bucket:?}").contains("wJalr"));
        assert_eq!(header("host"), None);
    }
}
