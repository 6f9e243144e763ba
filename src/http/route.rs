//! Which endpoint a path names, and what may be done there.
//!
//! The raw path is cut at its slashes first and each segment is percent-decoded once after that, so
//! an encoded slash never makes a segment and an encoded percent sign never a second decoding.
//! A path with a segment that could mean something else to somebody else (`.`, `..`, a slash, a
//! backslash, a control character, however they are written) names nothing: it is `NotFound`, never
//! another route.

pub use crate::base::FunctionName;

use super::refusal::Code;

/// The methods that endpoints of the worker know; calls take any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Connect,
    Other,
}

impl Method {
    /// Methods are case-sensitive.
    pub fn of(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// An endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// `/run/NAME[/rest]`: `rest` is raw, begins with a slash or is empty.
    Run {
        name: FunctionName,
        rest: &'a str,
    },
    Status,
    Stats,
    Metrics,
    Tree,
    Debug,
    Pid,
    /// `/registry`: the list.
    Registry,
    /// `/registry/NAME`
    Function(FunctionName),
    /// `/registry/NAME/config`
    FunctionConfig(FunctionName),
    /// `/registry/NAME/versions`
    FunctionVersions(FunctionName),
    /// `/registry/NAME/rollback`
    FunctionRollback(FunctionName),
    /// `/logs/NAME`
    Logs(FunctionName),
    Trace,
    /// `/packages`: the store, and what is to be done with it.
    Packages,
    /// `/packages/sets/KEY`: how far an install is.
    PackageSet(&'a str),
    /// `/packages/functions/NAME`: how far that of a function is.
    FunctionPackages(FunctionName),
    /// `OPTIONS *`: is anybody there? Also what `CONNECT` names, which is not allowed.
    Server,
    NotFound,
}

impl<'a> Route<'a> {
    /// The endpoint that a raw path names (of a request head, without its query).
    pub fn of(path: &'a str) -> Self {
        if path == "*" {
            return Self::Server;
        }
        let Some(path) = path.strip_prefix('/') else {
            return Self::NotFound;
        };
        if !path.split('/').all(has_one_meaning) {
            return Self::NotFound;
        }
        let (first, rest) = cut(path);
        let endpoint = ENDPOINTS
            .iter()
            .find(|(name, _)| decoded(first).eq(name.bytes()));
        match (endpoint.map(|(_, kind)| kind), rest) {
            (Some(Kind::Run), Some(rest)) => Self::run(rest),
            (Some(Kind::Registry), Some(rest)) => Self::registry(rest),
            (Some(Kind::Logs), Some(name)) => Self::named(name, Self::Logs),
            (Some(Kind::Registry), None) => Self::Registry,
            (Some(Kind::Status), None) => Self::Status,
            (Some(Kind::Stats), None) => Self::Stats,
            (Some(Kind::Metrics), None) => Self::Metrics,
            (Some(Kind::Tree), None) => Self::Tree,
            (Some(Kind::Debug), None) => Self::Debug,
            (Some(Kind::Pid), None) => Self::Pid,
            (Some(Kind::Trace), None) => Self::Trace,
            (Some(Kind::Packages), None) => Self::Packages,
            (Some(Kind::Packages), Some(rest)) => Self::packages(rest),
            _ => Self::NotFound,
        }
    }

    fn run(path: &'a str) -> Self {
        let end = path.find('/').unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        match FunctionName::from_bytes(decoded(name)) {
            Some(name) => Self::Run { name, rest },
            None => Self::NotFound,
        }
    }

    fn packages(path: &'a str) -> Self {
        match cut(path) {
            ("sets", Some(key)) if !key.contains('/') => Self::PackageSet(key),
            ("functions", Some(name)) => Self::named(name, Self::FunctionPackages),
            _ => Self::NotFound,
        }
    }

    fn registry(path: &str) -> Self {
        let (name, rest) = cut(path);
        let Some(rest) = rest else {
            return Self::named(name, Self::Function);
        };
        let is = |word: &str| decoded(rest).eq(word.bytes());
        if is("config") {
            Self::named(name, Self::FunctionConfig)
        } else if is("versions") {
            Self::named(name, Self::FunctionVersions)
        } else if is("rollback") {
            Self::named(name, Self::FunctionRollback)
        } else {
            Self::NotFound
        }
    }

    fn named(segment: &str, route: fn(FunctionName) -> Self) -> Self {
        FunctionName::from_bytes(decoded(segment)).map_or(Self::NotFound, route)
    }

    /// Served over TCP without a token?
    pub const fn is_public(&self) -> bool {
        matches!(
            self,
            Self::Run { .. } | Self::Status | Self::Server | Self::NotFound
        )
    }

    /// What `Allow` says; `None` where any method goes.
    pub const fn allowed(&self) -> Option<&'static str> {
        match self {
            Self::Run { .. } | Self::NotFound => None,
            Self::Status
            | Self::Stats
            | Self::Metrics
            | Self::Tree
            | Self::Debug
            | Self::Pid
            | Self::Registry
            | Self::FunctionConfig(_)
            | Self::FunctionVersions(_)
            | Self::Logs(_)
            | Self::PackageSet(_)
            | Self::FunctionPackages(_)
            | Self::Trace => Some("GET, HEAD"),
            Self::Packages => Some("GET, HEAD, POST"),
            Self::Function(_) => Some("GET, HEAD, PUT, POST, DELETE"),
            Self::FunctionRollback(_) => Some("POST"),
            Self::Server => Some("OPTIONS"),
        }
    }

    /// May this method be used here? `HEAD` is what `GET` would say, without the body.
    pub const fn check(&self, method: Method) -> Result<(), Code> {
        let allowed = match self {
            Self::NotFound => return Err(Code::NotFound),
            Self::Run { .. } => true,
            Self::Function(_) => matches!(
                method,
                Method::Get | Method::Head | Method::Put | Method::Post | Method::Delete
            ),
            Self::FunctionRollback(_) => matches!(method, Method::Post),
            Self::Packages => matches!(method, Method::Get | Method::Head | Method::Post),
            Self::Server => matches!(method, Method::Options),
            _ => matches!(method, Method::Get | Method::Head),
        };
        if allowed {
            Ok(())
        } else {
            Err(Code::MethodNotAllowed)
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Run,
    Status,
    Stats,
    Metrics,
    Tree,
    Debug,
    Pid,
    Registry,
    Logs,
    Trace,
    Packages,
}

/// First segments; the busiest first.
const ENDPOINTS: [(&str, Kind); 11] = [
    ("run", Kind::Run),
    ("status", Kind::Status),
    ("stats", Kind::Stats),
    ("metrics", Kind::Metrics),
    ("tree", Kind::Tree),
    ("debug", Kind::Debug),
    ("pid", Kind::Pid),
    ("registry", Kind::Registry),
    ("logs", Kind::Logs),
    ("trace", Kind::Trace),
    ("packages", Kind::Packages),
];

/// The first segment, and what is behind its slash.
fn cut(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

/// No segment that somebody behind us could read as another path.
fn has_one_meaning(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'.' | b'\\')) {
        return true;
    }
    let dots = decoded(segment)
        .take(3)
        .filter(|byte| *byte == b'.')
        .count();
    let all_dots = dots == decoded(segment).take(3).count();
    !(all_dots && (dots == 1 || dots == 2))
        && decoded(segment).all(|byte| !matches!(byte, b'/' | b'\\' | 0x00..=0x1f | 0x7f))
}

/// The bytes of `text`, percent-decoded once. What is no valid escape stands for itself.
pub fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = text.as_bytes();
    core::iter::from_fn(move || {
        let (&first, rest) = bytes.split_first()?;
        if let (b'%', [high, low, ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            bytes = &rest[2..];
            return Some(high << 4 | low);
        }
        bytes = rest;
        Some(first)
    })
}

/// The value of a hexadecimal digit.
pub(super) const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn run<'a>(name: &str, rest: &'a str) -> Route<'a> {
        Route::Run {
            name: FunctionName::new(name).unwrap(),
            rest,
        }
    }

    #[test]
    fn every_endpoint_has_its_path() {
        let name = FunctionName::new("f-1").unwrap();
        for (path, route) in [
            ("/status", Route::Status),
            ("/stats", Route::Stats),
            ("/metrics", Route::Metrics),
            ("/tree", Route::Tree),
            ("/debug", Route::Debug),
            ("/pid", Route::Pid),
            ("/trace", Route::Trace),
            ("/packages", Route::Packages),
            ("/packages/sets/0a1b", Route::PackageSet("0a1b")),
            ("/packages/functions/f-1", Route::FunctionPackages(name)),
            ("/packages/f-1", Route::NotFound),
            ("/registry", Route::Registry),
            ("/registry/f-1", Route::Function(name)),
            ("/registry/f-1/config", Route::FunctionConfig(name)),
            ("/registry/f-1/versions", Route::FunctionVersions(name)),
            ("/registry/f-1/rollback", Route::FunctionRollback(name)),
            ("/logs/f-1", Route::Logs(name)),
            ("*", Route::Server),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_call_keeps_the_rest_of_its_path_as_it_came() {
        assert_eq!(Route::of("/run/f"), run("f", ""));
        assert_eq!(Route::of("/run/f/"), run("f", "/"));
        assert_eq!(Route::of("/run/f/a%20b//c|d"), run("f", "/a%20b//c|d"));
        assert_eq!(Route::of("/r%75n/%66.py"), run("f.py", ""));
        assert_eq!(Route::of("/run/f/%zz%4"), run("f", "/%zz%4"));
        assert_eq!(Route::of("/run/f/..."), run("f", "/..."));
    }

    #[test]
    fn what_could_be_read_as_another_path_is_no_path() {
        for path in [
            "/run/../registry",
            "/run/..",
            "/run/.",
            "/run/%2e%2e/registry",
            "/run/.%2E/registry",
            "/run/f/../../registry",
            "/run/f/%2e%2e/%2e%2e/registry",
            "/run/f/.",
            "/run/f%2Fg",
            "/run%2Ff",
            "/run/f/a%2fb",
            "/run/f%00",
            "/run/f/%00",
            "/run/f/%0d%0a",
            "/run/f\\..\\registry",
            "/run/f/%5c",
            "/run/%2573",
            "/./status",
            "/status/..",
        ] {
            assert_eq!(Route::of(path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn neighbours_of_endpoints_are_no_endpoints() {
        for path in [
            "",
            "/",
            "//",
            "//status",
            "/status/",
            "/Status",
            "/statuses",
            "/run",
            "/run/",
            "/run//f",
            "/registry/",
            "/registry/f/",
            "/registry/f/other",
            "/registry/f/config/",
            "/logs",
            "/logs/f/g",
            "/run/a|b",
            "/run/\"",
            "/run/f^",
            "/run/f%20",
            "/%73%74atus%",
            "status",
        ] {
            assert_eq!(Route::of(path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let longest = "n".repeat(64);
        assert_eq!(FunctionName::new(&longest).unwrap().as_str(), longest);
        assert_eq!(FunctionName::new(&"n".repeat(65)), None);
        assert_eq!(FunctionName::new(""), None);
        assert_eq!(FunctionName::new(".."), None);
        assert_eq!(FunctionName::new("ü"), None);
        assert!(FunctionName::new("a") < FunctionName::new("ab"));
    }

    #[test]
    fn decoding_happens_once() {
        let decoded = |text| decoded(text).collect::<Vec<u8>>();
        assert_eq!(decoded("%2541%4a%4A%"), b"%41JJ%");
        assert_eq!(decoded("%ff%g1%1"), b"\xff%g1%1");
    }

    #[test]
    fn methods_are_checked_where_they_matter() {
        assert_eq!(Route::of("/status").check(Method::Head), Ok(()));
        assert_eq!(
            Route::of("/status").check(Method::Post),
            Err(Code::MethodNotAllowed)
        );
        assert_eq!(Route::of("/run/f").check(Method::Other), Ok(()));
        assert_eq!(Route::of("/registry/f").check(Method::Delete), Ok(()));
        assert_eq!(
            Route::of("/registry/f").check(Method::Options),
            Err(Code::MethodNotAllowed)
        );
        assert_eq!(
            Route::of("/registry/f/rollback").check(Method::Get),
            Err(Code::MethodNotAllowed)
        );
        assert_eq!(Route::of("*").check(Method::Options), Ok(()));
        assert_eq!(Route::of("/x").check(Method::Get), Err(Code::NotFound));
        assert_eq!(Method::of("get"), Method::Other);
    }
}
