//! A refusal as the client reads it: `application/problem+json`, RFC 9457.

use super::answer::{Answer, Asked, Body};
use super::date::Date;
use super::json::{number, string};
use super::refusal::{Code, Refusal, Retry};
use alloc::vec::Vec;

/// What is said besides the row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    pub code: Code,
    /// This time: what was wrong and what to do. Never a host path, a pid or an address.
    pub detail: &'a str,
    pub call_id: Option<&'a str>,
    pub traceback: Option<&'a str>,
    /// For codes that say when to try again; a second, if nobody knows better.
    pub retry_after_sec: u32,
    /// For `method-not-allowed`.
    pub allow: Option<&'a str>,
}

impl<'a> Problem<'a> {
    pub const fn new(code: Code, detail: &'a str) -> Self {
        Self {
            code,
            detail,
            call_id: None,
            traceback: None,
            retry_after_sec: 1,
            allow: None,
        }
    }

    /// Appends the JSON object.
    pub fn render(&self, out: &mut Vec<u8>) {
        let row = self.code.row();
        out.extend_from_slice(b"{\"type\":\"/problems/");
        out.extend_from_slice(row.name.as_bytes());
        out.extend_from_slice(b"\",\"title\":");
        string(out, row.title);
        out.extend_from_slice(b",\"status\":");
        number(out, u64::from(row.status));
        out.extend_from_slice(b",\"detail\":");
        string(out, self.detail);
        out.extend_from_slice(b",\"call_id\":");
        match self.call_id {
            Some(call_id) => string(out, call_id),
            None => out.extend_from_slice(b"null"),
        }
        if let Some(traceback) = self.traceback {
            out.extend_from_slice(b",\"traceback\":");
            string(out, traceback);
        }
        out.extend_from_slice(b"}\n");
    }

    /// Appends the head that goes with a rendered object of `length` bytes.
    pub fn head(&self, out: &mut Vec<u8>, asked: Asked, date: &Date, length: usize) -> Body {
        let row = self.code.row();
        let mut answer = Answer::begin(out, asked, row.status, date)
            .field("Content-Type", b"application/problem+json");
        if let Some(call_id) = self.call_id {
            answer = answer.field("X-OL-Call-Id", call_id.as_bytes());
        }
        if let Some(allow) = self.allow {
            answer = answer.field("Allow", allow.as_bytes());
        }
        if self.code == Code::Unauthorized {
            answer = answer.field("WWW-Authenticate", b"Bearer realm=\"olworker\"");
        }
        if row.retry == Retry::After {
            answer = answer.number("Retry-After", u64::from(self.retry_after_sec.max(1)));
        }
        answer.body(Some(length as u64))
    }
}

impl From<Refusal> for Problem<'static> {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::refusal::TABLE;
    use alloc::string::String;

    fn render(problem: &Problem<'_>) -> (String, serde_json::Value) {
        let (mut body, mut out) = (Vec::new(), Vec::new());
        problem.render(&mut body);
        let _ = problem.head(&mut out, Asked::UNREADABLE, &Date::at(0), body.len());
        (
            String::from_utf8(out).unwrap(),
            serde_json::from_slice(&body).unwrap(),
        )
    }

    #[test]
    fn every_row_renders_as_a_problem() {
        for row in TABLE {
            let (head, body) = render(&Problem::new(row.code, "d\"\n"));
            assert!(
                head.starts_with(&alloc::format!("HTTP/1.1 {} ", row.status)),
                "{head}"
            );
            assert_eq!(
                head.contains("\r\nRetry-After: 1\r\n"),
                row.retry == Retry::After
            );
            assert_eq!(body["type"], alloc::format!("/problems/{}", row.name));
            assert_eq!(body["status"], row.status);
            assert_eq!(body["title"], row.title);
            assert_eq!(body["detail"], "d\"\n");
            assert!(body["call_id"].is_null());
            assert_eq!(body.get("traceback"), None);
        }
    }

    #[test]
    fn what_goes_with_a_code_is_said() {
        let problem = Problem {
            call_id: Some("c-1"),
            ..Problem::new(Code::Unauthorized, "")
        };
        let (head, body) = render(&problem);
        assert!(head.contains("\r\nWWW-Authenticate: Bearer"), "{head}");
        assert!(head.contains("\r\nX-OL-Call-Id: c-1\r\n"), "{head}");
        assert_eq!(body["call_id"], "c-1");
        let problem = Problem {
            allow: Some("GET"),
            ..Problem::new(Code::MethodNotAllowed, "")
        };
        assert!(render(&problem).0.contains("\r\nAllow: GET\r\n"));
        let problem = Problem {
            retry_after_sec: 7,
            ..Problem::new(Code::Overloaded, "")
        };
        assert!(render(&problem).0.contains("\r\nRetry-After: 7\r\n"));
        let problem = Problem {
            traceback: Some("t"),
            ..Problem::new(Code::FunctionError, "")
        };
        assert_eq!(render(&problem).1["traceback"], "t");
    }
}
