//! The request target and its host: the forms of RFC 9112 section 3.2 with the authorities of
//! RFC 3986.
//!
//! ```text
//!   /path?query                     origin-form    every method but CONNECT
//!   http://authority/path?query     absolute-form  its authority replaces Host
//!   *                               asterisk-form  OPTIONS only
//!   host:port                       authority-form CONNECT only: a good request, but there are no
//!                                                  tunnels, so the server as a whole refuses it
//! ```

use super::characters::is_host;
use super::refusal::Refusal;
use super::route::{Method, hex};
use core::net::Ipv6Addr;
use core::num::NonZeroU16;
use core::ops::Range;

/// Where the parts of a target are, as offsets into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub path: Path,
    pub query: Option<Range<usize>>,
    pub authority: Option<Range<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// As it stands in the target.
    Given(Range<usize>),
    /// `http://host` means `/`.
    Root,
    /// `OPTIONS *`, what a proxy makes of it, and what `CONNECT` names.
    Server,
    /// A URI of another scheme: it names nothing here.
    Foreign,
}

pub(super) fn parse(method: Method, target: &str) -> Result<Parts, Refusal> {
    if method == Method::Connect {
        return tunnel(target);
    }
    if target.starts_with('/') {
        return Ok(path_and_query(target, 0, None));
    }
    if target == "*" {
        return match method {
            Method::Options => Ok(Parts {
                path: Path::Server,
                query: None,
                authority: None,
            }),
            _ => Err(Refusal::bad("only OPTIONS has the target *")),
        };
    }
    absolute(method, target)
}

/// Where a tunnel would end: a host and a port, neither of which may be missing.
fn tunnel(target: &str) -> Result<Parts, Refusal> {
    let port = target.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let is_good = is_authority(target.as_bytes())
        && port.is_some_and(|(_, port)| port.parse::<NonZeroU16>().is_ok());
    if !is_good {
        return Err(Refusal::bad("CONNECT takes a host:port"));
    }
    Ok(Parts {
        path: Path::Server,
        query: None,
        authority: Some(0..target.len()),
    })
}

fn absolute(method: Method, target: &str) -> Result<Parts, Refusal> {
    const NO_FORM: Refusal = Refusal::bad("the request target is neither a path nor an http URI");
    let (scheme, rest) = target.split_once("://").ok_or(NO_FORM)?;
    if !is_scheme(scheme) {
        return Err(NO_FORM);
    }
    let start = scheme.len() + "://".len();
    let length = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(length);
    if !is_authority(authority.as_bytes()) || authority.is_empty() || authority.starts_with(':') {
        return Err(Refusal::bad(
            "the request target's authority is not host[:port]",
        ));
    }
    let mut parts = path_and_query(target, start + length, Some(start..start + length));
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        parts.path = Path::Foreign;
    } else if tail.is_empty() && method == Method::Options {
        parts.path = Path::Server;
    }
    Ok(parts)
}

fn path_and_query(target: &str, start: usize, authority: Option<Range<usize>>) -> Parts {
    let end = target[start..]
        .find('?')
        .map_or(target.len(), |mark| start + mark);
    Parts {
        path: if start == end {
            Path::Root
        } else {
            Path::Given(start..end)
        },
        query: (end < target.len()).then_some(end + 1..target.len()),
        authority,
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `uri-host [":" port]`, where the host may be empty; no user information.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = if let [b'[', rest @ ..] = authority {
        let Some(end) = rest.iter().position(|byte| *byte == b']') else {
            return false;
        };
        if !is_ip_literal(&rest[..end]) {
            return false;
        }
        (&[][..], &rest[end + 1..])
    } else {
        let end = authority
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(authority.len());
        authority.split_at(end)
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port_is_good && is_registered_name(host)
}

/// Empty, a name, or an IPv4 address: the grammar of names covers all.
fn is_registered_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if hex(*high).is_some() && hex(*low).is_some() => rest,
            [byte, rest @ ..] if is_host(*byte) => rest,
            _ => return false,
        }
    }
}

/// What may stand between the brackets.
fn is_ip_literal(literal: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(literal) else {
        return false;
    };
    let Some(future) = text.strip_prefix(['v', 'V']) else {
        return text.parse::<Ipv6Addr>().is_ok();
    };
    future.split_once('.').is_some_and(|(version, address)| {
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(|byte| is_host(byte) || byte == b':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(method: Method, target: &str) -> Option<&str> {
        match parse(method, target).ok()?.path {
            Path::Given(range) => Some(&target[range]),
            Path::Root => Some("/"),
            Path::Server => Some("*"),
            Path::Foreign => Some(""),
        }
    }

    #[test]
    fn the_four_forms() {
        let get = |target| path(Method::Get, target);
        assert_eq!(get("/a?b?c"), Some("/a"));
        assert_eq!(get("//host/a"), Some("//host/a"));
        assert_eq!(get("http://host/a?b"), Some("/a"));
        assert_eq!(get("HTTPS://host:1?b"), Some("/"));
        assert_eq!(get("http://host"), Some("/"));
        assert_eq!(get("ftp://host/status"), Some(""));
        assert_eq!(get("*"), None);
        assert_eq!(path(Method::Options, "*"), Some("*"));
        assert_eq!(path(Method::Options, "http://host"), Some("*"));
        assert_eq!(path(Method::Options, "http://host/"), Some("/"));
        assert_eq!(path(Method::Connect, "host:443"), Some("*"));
        assert_eq!(path(Method::Connect, "/"), None);
    }

    #[test]
    fn targets_of_no_form() {
        for target in [
            "a",
            "?a",
            "host:80",
            "urn:a",
            "://host/",
            "1http://host/",
            "http:/host",
            "http:///a",
            "http://",
            "http://:80/",
            "http://user@host/",
            "http://a b/",
            "http://host:x/",
            "http://[::1/",
            "http://[::1]x/",
            "http://ho\"st/",
            "**",
            "*/",
            "*?a",
            "\\a",
        ] {
            assert!(parse(Method::Get, target).is_err(), "{target}");
        }
    }

    #[test]
    fn the_query_begins_behind_the_first_question_mark() {
        let parts = parse(Method::Get, "http://h/p?a?b").unwrap();
        assert_eq!(parts.query, Some(11..14));
        assert_eq!(parts.authority, Some(7..8));
        assert_eq!(parse(Method::Get, "/p?").unwrap().query, Some(3..3));
        assert_eq!(parse(Method::Get, "/p").unwrap().query, None);
    }

    #[test]
    fn authorities() {
        for good in [
            "",
            "a",
            "a:",
            "a:80",
            "a.b-c_d~:99999",
            "1.2.3.4",
            "[::1]",
            "[::1]:80",
            "[v1.a:b]",
            "a%20b",
            "a,b",
            "a;b=c",
            "[::ffff:1.2.3.4]:",
            ":80",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "a@b",
            "a/b",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a%2",
            "a%zz",
            "[",
            "[]",
            "[::1",
            "::1",
            "[::1]a",
            "[v1]",
            "[v.a]",
            "[vx.a]",
            "[fe80::1%25eth0]",
            "a\"",
            "a\\b",
            "<a>",
            "a#",
            "a?b",
            "ü",
            "a\u{7f}",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
