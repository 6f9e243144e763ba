//! The record as a person reads it: one line, its fields behind the text as `name=value`.
//!
//! Whatever a function or a client put into a field, it stays one record: line breaks are followed
//! by an indent, other control characters are shown as escapes, never sent to a terminal.

use super::sink::cut;
use core::fmt::{self, Write};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, Record};
use std::time::Duration;

/// Seconds in a day.
const DAY: u64 = 86_400;

/// `text name=value name="a value"`.
pub fn text(record: &Record<'_>, out: &mut String) {
    let mut said = record.args().to_string();
    cut(&mut said);
    escape(said.trim_end(), out);
    let _ = record.key_values().visit(&mut Fields { out });
}

struct Fields<'a> {
    out: &'a mut String,
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = value.to_string();
        let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=';
        let _ = if !value.is_empty() && value.chars().all(plain) {
            write!(self.out, " {key}={value}")
        } else {
            write!(self.out, " {key}={value:?}")
        };
        Ok(())
    }
}

fn escape(said: &str, out: &mut String) {
    for c in said.chars() {
        match c {
            '\n' => out.push_str("\n    "),
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// As wide as the widest, so that texts stand below each other.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn ",
        Level::Info => "info ",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// A moment since 1970 as RFC 3339, in UTC, to the millisecond.
#[derive(Debug, Clone, Copy)]
pub struct Moment(pub Duration);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        let (year, month, day) = date(seconds / DAY);
        let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap
/// day is the last one of its year; 400 years have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    const EPOCH_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    let days = days + EPOCH_FROM_MARCH_OF_YEAR_0;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March the months have 31 30 31 30 31, 31 30 31 30 31, 31 (28|29) days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(what: &str, pairs: &[(&str, &str)]) -> String {
        let mut out = String::new();
        let args = format_args!("{what}");
        text(
            &Record::builder().args(args).key_values(&pairs).build(),
            &mut out,
        );
        out
    }

    #[test]
    fn fields_follow_the_text() {
        let pairs = [
            ("function", "echo"),
            ("why", "no such file"),
            ("empty", ""),
            ("q", "a=\"b"),
        ];
        assert_eq!(
            said("it failed", &pairs),
            r#"it failed function=echo why="no such file" empty="" q="a=\"b""#
        );
    }

    #[test]
    fn nothing_said_can_look_like_another_record() {
        assert_eq!(said("a\nb\u{1b}[31m\r\n", &[]), "a\n    b\\u{1b}[31m");
        assert_eq!(said("x", &[("f", "a\nb\u{1b}")]), "x f=\"a\\nb\\u{1b}\"");
    }

    #[test]
    fn moments_are_written_as_dates() {
        let at = |seconds| Moment(Duration::new(seconds, 7_000_000)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(951_868_800), "2000-03-01T00:00:00.007Z");
        assert_eq!(at(1_763_703_263), "2025-11-21T05:34:23.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }
}
