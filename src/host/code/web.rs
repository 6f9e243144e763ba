//! A registry behind HTTP: `http(s)://host/path/NAME.tar.gz` and so on, or a bucket of S3.
//!
//! ```text
//!   look ──▶ NAME.tar.gz ─404─▶ NAME.py ─404─▶ ... ─404─▶ absent
//!              │ 200        └ the one that was there last time is asked for first, and only for
//!              ▼              what is newer (ETag, Last-Modified): 304, nothing to do
//!            spool (an unlinked file) ──▶ image
//! ```
//!
//! Everything is bounded: time to connect, silence, the whole, the size. What fails in a way that
//! may pass (no connection, cut off, 429, 5xx) is tried again after a pause; a body that was cut
//! off goes on where it stopped, if the server vouches with a strong ETag that it is the same one.
//! Nothing is written there: uploads are refused.

use super::super::unprivileged::Unprivileged;
use super::archive::Bad;
use super::image::{Check, Image, Images};
use super::registry::Listed;
use super::s3::{Bucket, Signed};
use super::s3_list::{self, Object, Page};
use crate::base::FunctionName;
use crate::sys::clock;
use rustix::event::{Timespec, poll};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, RequestBuilder};

/// In the order in which they are tried.
const ENDINGS: [&str; 5] = [".tar.gz", ".py", ".zip", ".tgz", ".tar"];
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// One attempt at one address.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);
/// Attempts at one address, and the pauses between them: each is four times the one before.
const ATTEMPTS_MAX: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest archive.
const BYTES_MAX: u64 = 256 << 20;
const REDIRECTS_MAX: u32 = 4;
/// A thousand keys of a kilobyte each, with what is told about them.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// Of a list: two hundred thousand objects.
const PAGES_MAX: u32 = 200;
/// An ETag or a date that is longer is not used.
const VALIDATOR_BYTES_MAX: usize = 512;

/// How one knows, without reading it, that an entry is what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebStamp {
    ending: &'static str,
    etag: Option<String>,
    modified: Option<String>,
}

/// What is there of a name.
#[derive(Debug)]
pub enum Looked {
    Absent,
    /// As it was when the stamp was taken.
    Same,
    New(Fetched),
}

/// An entry that was fetched.
#[derive(Debug)]
pub struct Fetched {
    file: File,
    pub stamp: WebStamp,
    pub bytes: u64,
    pub modified_secs: i64,
}

#[derive(Debug)]
enum Place {
    /// Ends with `/`.
    Http(String),
    S3(Bucket),
}

/// A registry on the web. Clones share it.
#[derive(Clone, Debug)]
pub struct Web {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    agent: Agent,
    place: Place,
    images: Images,
    /// What was found so far: nobody can list a registry of HTTP.
    found: Mutex<BTreeMap<FunctionName, Listed>>,
}

/// Why an attempt came to nothing.
enum Failed {
    /// It may go better soon.
    ForNow(io::Error),
    For(io::Error),
}

fn failed(why: impl Into<String>) -> io::Error {
    io::Error::other(why.into())
}

/// What was fetched so far of a body that was cut off.
#[derive(Default)]
struct Spool {
    file: Option<File>,
    bytes: u64,
    /// Strong: it is the same body byte for byte.
    etag: Option<String>,
}

impl Web {
    pub fn http(url: &str, cache: &Path, unprivileged: Unprivileged) -> io::Result<Self> {
        let place = Place::Http(format!("{}/", url.trim_end_matches('/')));
        Self::open(place, REDIRECTS_MAX, cache, unprivileged)
    }

    pub fn s3(url: &str, cache: &Path, unprivileged: Unprivileged) -> io::Result<Self> {
        // A signature is for one address.
        Self::open(Place::S3(Bucket::open(url)?), 0, cache, unprivileged)
    }

    fn open(
        place: Place,
        redirects: u32,
        cache: &Path,
        unprivileged: Unprivileged,
    ) -> io::Result<Self> {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(redirects)
            .max_redirects_will_error(redirects > 0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .timeout_per_read(Some(SILENCE_MAX))
            .timeout_global(Some(WHOLE_WITHIN))
            .user_agent(concat!("olworker/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let images = Images::open(cache.join("code"), unprivileged)?;
        Ok(Self {
            inner: Arc::new(Inner {
                agent,
                place,
                images,
                found: Mutex::default(),
            }),
        })
    }

    /// Looks for a name; `known` is what was there before. Blocks, for minutes at worst.
    pub fn look(&self, name: &FunctionName, known: Option<&WebStamp>) -> io::Result<Looked> {
        let first = known.map(|stamp| stamp.ending);
        let others = ENDINGS.into_iter().filter(|ending| Some(*ending) != first);
        for ending in first.into_iter().chain(others) {
            let known = known.filter(|stamp| stamp.ending == ending);
            match self.inner.fetch(name, ending, known)? {
                Looked::Absent => {}
                looked => {
                    self.remember(name, &looked);
                    return Ok(looked);
                }
            }
        }
        self.found().remove(name);
        Ok(Looked::Absent)
    }

    fn found(&self) -> std::sync::MutexGuard<'_, BTreeMap<FunctionName, Listed>> {
        // A panic elsewhere leaves the map whole.
        self.inner
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, name: &FunctionName, looked: &Looked) {
        if let Looked::New(fetched) = looked {
            let listed = Listed {
                name: *name,
                bytes: fetched.bytes,
                modified_secs: fetched.modified_secs,
                version: None,
            };
            self.found().insert(*name, listed);
        }
    }

    /// Every function of a bucket; of a registry of HTTP what was found so far. Blocks.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        match &self.inner.place {
            Place::Http(_) => Ok(self.found().values().cloned().collect()),
            Place::S3(bucket) => self.inner.list(bucket),
        }
    }

    /// One function's row.
    pub fn get(&self, name: &FunctionName) -> io::Result<Option<Listed>> {
        if let Some(listed) = self.found().get(name) {
            return Ok(Some(listed.clone()));
        }
        self.look(name, None)?;
        Ok(self.found().get(name).cloned())
    }

    /// The image of what was fetched, and what `check` says of it.
    pub fn load<T>(&self, fetched: Fetched, check: Check<'_, T>) -> Result<(Image, T), Bad> {
        self.inner.images.of_file(fetched.file, check)
    }
}

impl Inner {
    /// One address, as often as it takes.
    fn fetch(
        &self,
        name: &FunctionName,
        ending: &'static str,
        known: Option<&WebStamp>,
    ) -> io::Result<Looked> {
        let mut spool = Spool::default();
        persist(|| self.try_once(name, ending, known, &mut spool))
    }

    /// Every function of a bucket, by name; of several entries the one that would be fetched.
    fn list(&self, bucket: &Bucket) -> io::Result<Vec<Listed>> {
        let mut best = BTreeMap::<FunctionName, (usize, Listed)>::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let page = persist(|| self.page(bucket, token.as_deref()))?;
            for object in &page.objects {
                let Some((rank, listed)) = listed(bucket, object) else {
                    continue;
                };
                let known = best.get(&listed.name);
                if known.is_none_or(|(other, _)| rank < *other) {
                    best.insert(listed.name, (rank, listed));
                }
            }
            token = page.next;
            if token.is_none() {
                return Ok(best.into_values().map(|(_, listed)| listed).collect());
            }
        }
        Err(failed(format!("its list has more than {PAGES_MAX} pages")))
    }

    fn page(&self, bucket: &Bucket, token: Option<&str>) -> Result<Page, Failed> {
        let Signed { url, headers } = bucket.list(token, clock::wall());
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = request.call().map_err(|error| unreached(&error))?;
        match answer.status().as_u16() {
            200 => {}
            403 => {
                let why = "the registry refuses to be listed: 403 (its credentials want \
                           s3:ListBucket)";
                return Err(Failed::For(failed(why)));
            }
            status => return Err(refused(status)),
        }
        let mut xml = String::new();
        let body = answer.body_mut().as_reader();
        body.take(PAGE_BYTES_MAX)
            .read_to_string(&mut xml)
            .map_err(|error| Failed::ForNow(failed(format!("its list broke off: {error}"))))?;
        let unread = || Failed::For(failed("the registry sent no list that can be read"));
        s3_list::page(&xml).ok_or_else(unread)
    }

    /// A request for what is newer than `known`, or for the rest of what is spooled.
    fn request(
        &self,
        key: &str,
        known: Option<&WebStamp>,
        spool: Option<&Spool>,
    ) -> RequestBuilder<WithoutBody> {
        let Signed { url, headers } = match &self.place {
            Place::Http(base) => Signed {
                url: format!("{base}{key}"),
                headers: Vec::new(),
            },
            Place::S3(bucket) => bucket.get(key, clock::wall()),
        };
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let (none, modified) = known.map_or((None, None), |known| {
            (known.etag.as_deref(), known.modified.as_deref())
        });
        let range = spool.map(|spool| format!("bytes={}-", spool.bytes));
        let same = spool.and_then(|spool| spool.etag.as_deref());
        let conditions = match range.as_deref() {
            Some(range) => [("Range", Some(range)), ("If-Range", same)],
            // A date only where there is nothing better: it is of seconds, and there are servers
            // that look at it though they have compared the tag.
            None if none.is_some() => [("If-None-Match", none), ("If-Modified-Since", None)],
            None => [("If-None-Match", None), ("If-Modified-Since", modified)],
        };
        for (name, value) in conditions {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request
    }

    fn try_once(
        &self,
        name: &FunctionName,
        ending: &'static str,
        known: Option<&WebStamp>,
        spool: &mut Spool,
    ) -> Result<Looked, Failed> {
        let resumes = spool.bytes > 0 && spool.etag.is_some();
        let request = self.request(
            &format!("{name}{ending}"),
            known,
            resumes.then_some(&*spool),
        );
        let mut answer = request.call().map_err(|error| unreached(&error))?;
        let headers = answer.headers().clone();
        match answer.status().as_u16() {
            404 | 410 => return Ok(Looked::Absent),
            304 if known.is_some() && !resumes => return Ok(Looked::Same),
            200 => *spool = Spool::default(),
            206 if resumes && goes_on(&headers, spool.bytes) => {}
            206 | 416 => {
                *spool = Spool::default();
                return Err(Failed::ForNow(failed("the registry sent another part")));
            }
            status => return Err(refused(status)),
        }
        spool.etag = validator(&headers, "etag").filter(|etag| !etag.starts_with("W/"));
        let length = answer.body().content_length();
        let whole = length.map(|length| spool.bytes + length);
        take(spool, &self.images, &mut answer.body_mut().as_reader())?;
        if whole.is_some_and(|whole| whole != spool.bytes) {
            return Err(Failed::ForNow(failed("the registry broke off")));
        }
        let modified = validator(&headers, "last-modified");
        let mut file = spool
            .file
            .take()
            .ok_or(Failed::For(failed("nothing came")))?;
        file.seek(SeekFrom::Start(0)).map_err(Failed::For)?;
        Ok(Looked::New(Fetched {
            file,
            bytes: spool.bytes,
            modified_secs: modified.as_deref().and_then(seconds_of).unwrap_or(0),
            stamp: WebStamp {
                ending,
                etag: validator(&headers, "etag"),
                modified,
            },
        }))
    }
}

/// Tries again after a pause, as often as it may help.
fn persist<T>(mut attempt: impl FnMut() -> Result<T, Failed>) -> io::Result<T> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS_MAX {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failed::For(why)) => return Err(why),
            Err(Failed::ForNow(_)) => {}
        }
        wait(pause);
        pause *= 4;
    }
    attempt().map_err(|(Failed::For(why) | Failed::ForNow(why))| why)
}

fn refused(status: u16) -> Failed {
    match status {
        401 | 403 => Failed::For(failed(format!(
            "the registry refuses access: {status} (see its credentials)"
        ))),
        408 | 429 | 500..=599 => Failed::ForNow(failed(format!("the registry answers {status}"))),
        _ => Failed::For(failed(format!("the registry answers {status}"))),
    }
}

/// An object as the function it holds, and how far behind its ending is tried.
fn listed(bucket: &Bucket, object: &Object) -> Option<(usize, Listed)> {
    let inner = bucket.inner(&object.key)?;
    let is_ending = |ending: &&str| inner.ends_with(*ending);
    let rank = ENDINGS.iter().position(is_ending)?;
    let name = FunctionName::new(inner.strip_suffix(ENDINGS[rank])?)?;
    let modified_secs = seconds_of_iso(&object.modified).unwrap_or(0);
    let (bytes, version) = (object.bytes, None);
    Some((
        rank,
        Listed {
            name,
            bytes,
            modified_secs,
            version,
        },
    ))
}

/// Appends a body to what there is of it.
fn take(spool: &mut Spool, images: &Images, body: &mut impl Read) -> Result<(), Failed> {
    if spool.file.is_none() {
        spool.file = Some(images.spool().map_err(Failed::For)?);
    }
    let file = spool.file.as_mut().expect("made above");
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = match body.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) => return Err(Failed::ForNow(failed(format!("it broke off: {error}")))),
        };
        spool.bytes += count as u64;
        if spool.bytes > BYTES_MAX {
            let limit = BYTES_MAX >> 20;
            return Err(Failed::For(failed(format!(
                "its archive exceeds {limit} MB"
            ))));
        }
        file.write_all(&piece[..count]).map_err(Failed::For)?;
    }
}

/// Nobody answered. What it says names no host: clients may read it.
fn unreached(error: &ureq::Error) -> Failed {
    let why = match error {
        ureq::Error::Timeout(_) => "the registry does not answer in time",
        ureq::Error::HostNotFound => "the registry's host is not known",
        error if is_of_trust(error) => untrusted(&error.to_string()),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "the registry cannot be reached",
        _ => "the registry does not answer as it should",
    };
    log::debug!("{why}: {error}");
    match error {
        ureq::Error::BadUri(_) => Failed::For(failed(why)),
        error if is_of_trust(error) => Failed::For(failed(why)),
        _ => Failed::ForNow(failed(why)),
    }
}

/// TLS came to nothing, and would do so again. What is wrong with a certificate comes as an error
/// of the connection.
fn is_of_trust(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// What rustls says of a server that it does not trust, in words without names.
fn untrusted(said: &str) -> &'static str {
    let roots = std::env::var_os("SSL_CERT_FILE");
    if roots.is_some_and(|roots| File::open(roots).is_err()) {
        return "the registry cannot be trusted: the file of authorities that SSL_CERT_FILE names \
                cannot be read";
    }
    let reasons = [
        (
            "UnknownIssuer",
            "the registry cannot be trusted: its certificate is of an authority that is not known \
             here (SSL_CERT_FILE names a file with those that are)",
        ),
        (
            "No CA certificates",
            "the registry cannot be trusted: no authority is known here (install ca-certificates, \
             or let SSL_CERT_FILE name a file of some)",
        ),
        (
            "not valid for name",
            "the registry cannot be trusted: its certificate is for another name",
        ),
        (
            "NotValidForName",
            "the registry cannot be trusted: its certificate is for another name",
        ),
        (
            "xpired",
            "the registry cannot be trusted: its certificate has expired",
        ),
    ];
    let found = reasons.iter().find(|(word, _)| said.contains(word));
    found.map_or("the registry cannot be trusted (TLS)", |(_, why)| why)
}

/// Does the part that was sent begin where ours ends?
fn goes_on(headers: &HeaderMap, bytes: u64) -> bool {
    let range = headers
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    start.is_some_and(|start| start.parse() == Ok(bytes))
}

fn validator(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= VALIDATOR_BYTES_MAX).then(|| value.to_owned())
}

/// `Fri, 28 Nov 2025 11:45:00 GMT` in seconds since 1970.
fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = date.split(' ').skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next()?)? as i64 / 3 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<i64>);
    let mut next = || clock.next()?.ok();
    let clock = (next()?, next()?, next()?);
    Some(since_1970((year, month, day), clock))
}

/// `2026-11-28T11:45:00.000Z` in seconds since 1970.
fn seconds_of_iso(moment: &str) -> Option<i64> {
    let mut numbers = moment.split(['-', 'T', ':', '.', 'Z']);
    let mut next = || numbers.next()?.parse::<i64>().ok();
    let date = (next()?, next()?, next()?);
    let clock = (next()?, next()?, next()?);
    Some(since_1970(date, clock))
}

fn since_1970(date: (i64, i64, i64), (hour, minute, second): (i64, i64, i64)) -> i64 {
    let (year, month, day) = date;
    // Years from March, as leap days come last then.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days - 719_469;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

/// Helpers may wait; nobody else does meanwhile.
fn wait(pause: Duration) {
    if let Ok(pause) = Timespec::try_from(pause) {
        // Interrupted early: then the next attempt comes early.
        let _ = poll(&mut [], Some(&pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let at = |text| seconds_of(text);
        assert_eq!(at("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(at("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(at("Fri, 21 Nov 2025 05:34:23 GMT"), Some(1_763_703_263));
        assert_eq!(at("yesterday"), None);
        let at = seconds_of_iso;
        assert_eq!(at("2025-11-21T05:34:23.000Z"), Some(1_763_703_263));
        assert_eq!(at("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(at(""), None);
    }

    #[test]
    fn a_part_counts_where_it_begins() {
        let mut headers = HeaderMap::new();
        assert!(!goes_on(&headers, 5));
        headers.insert("content-range", "bytes 5-9/10".parse().unwrap());
        assert!(goes_on(&headers, 5) && !goes_on(&headers, 4));
    }
}
