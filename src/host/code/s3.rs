//! Requests to S3, signed: an object, or a page of what there is.
//!
//! Credentials come from systemd (`LoadCredential=s3-access-key-id` and so on, the safer place) or
//! from the environment under the names that every tool of AWS knows; without any, requests are
//! anonymous, as a public bucket wants them. `AWS_ENDPOINT_URL` leads to another server than
//! Amazon's, which is then addressed by path.

use super::sigv4::{Credentials, EMPTY, Get, encoded, query};
use crate::host::log::Moment;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A key or a token.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// A bucket, or a part of one.
#[derive(Clone)]
pub struct Bucket {
    /// `https://host[:port]`.
    origin: String,
    host: String,
    /// Where the bucket begins: `/`, or `/bucket/`.
    root: String,
    /// What all keys begin with: nothing, or what ends with `/`.
    prefix: Vec<u8>,
    region: String,
    credentials: Option<Credentials>,
}

impl core::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let prefix = encoded(&self.prefix, true);
        write!(f, "{}{}{prefix}", self.origin, self.root)
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
        // A URL has blanks in percent already; signatures want their own way of it.
        let mut prefix = decoded(inner);
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let (origin, root) = if let Some(endpoint) = endpoint {
            let origin = endpoint.trim_end_matches('/').to_owned();
            (origin, format!("/{}/", encoded(bucket, false)))
        } else {
            let origin = format!("https://{bucket}.s3.{region}.amazonaws.com");
            (origin, "/".to_owned())
        };
        let host = origin
            .split_once("://")
            .map_or("", |(_, host)| host)
            .to_owned();
        Self {
            origin,
            host,
            root,
            prefix,
            region,
            credentials,
        }
    }

    /// The request for one object; `now` since 1970.
    pub fn get(&self, key: &str, now: Duration) -> Signed {
        let prefix = encoded(&self.prefix, true);
        let path = format!("{}{prefix}{}", self.root, encoded(key, false));
        self.signed(&path, "", now)
    }

    /// The request for a page of the objects, those behind `token`; `now` since 1970.
    pub fn list(&self, token: Option<&str>, now: Duration) -> Signed {
        let mut parts: Vec<(&str, &[u8])> = vec![
            ("list-type", b"2"),
            // What is further down is nobody's function.
            ("delimiter", b"/"),
            ("prefix", &self.prefix),
        ];
        parts.extend(token.map(|token| ("continuation-token", token.as_bytes())));
        self.signed(&self.root, &query(&parts), now)
    }

    /// What a key is called within the registry.
    pub fn inner<'a>(&self, key: &'a str) -> Option<&'a str> {
        let inner = key.as_bytes().strip_prefix(self.prefix.as_slice())?;
        core::str::from_utf8(inner).ok()
    }

    fn signed(&self, path: &str, query: &str, now: Duration) -> Signed {
        let mut url = format!("{}{path}", self.origin);
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
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
        let get = Get {
            path,
            query,
            headers: &headers,
            region: &self.region,
            service: "s3",
            stamp: &stamp,
        };
        let authorization = get.authorization(credentials);
        // The client writes this one itself, from the URL.
        headers.remove(0);
        headers.push(("authorization", authorization));
        Signed { url, headers }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_page_of_a_list_is_of_one_directory() {
        let now = Duration::from_hours(480_000);
        let bucket = bucket("s3://code/a%20b", Some("http://127.0.0.1:9000"));
        assert_eq!(
            bucket.list(Some("t/+="), now).url,
            "http://127.0.0.1:9000/code/?continuation-token=t%2F%2B%3D&delimiter=%2F&list-type=2\
             &prefix=a%20b%2F"
        );
        assert_eq!(bucket.inner("a b/f.py"), Some("f.py"));
        assert_eq!(bucket.inner("f.py"), None);
    }

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
