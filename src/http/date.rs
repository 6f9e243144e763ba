//! The Date field: RFC 9110 section 5.6.7, made once a second.

use core::fmt;

/// A moment as HTTP writes it, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Date {
    unix_sec: u64,
    text: [u8; Self::BYTES],
}

impl Date {
    const BYTES: usize = 29;

    pub fn at(unix_sec: u64) -> Self {
        Self {
            unix_sec,
            text: render(unix_sec),
        }
    }

    /// Moves to another second; nothing to do for the same one.
    pub fn set(&mut self, unix_sec: u64) {
        if self.unix_sec != unix_sec {
            *self = Self::at(unix_sec);
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.text).expect("dates are ASCII"))
    }
}

fn render(unix_sec: u64) -> [u8; Date::BYTES] {
    let (days, second) = (unix_sec / 86_400, unix_sec % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    // The first day of the epoch was a Thursday.
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    text[8..11].copy_from_slice(MONTHS[month]);
    for (at, value) in [
        (5, day),
        (12, year / 100),
        (14, year % 100),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ] {
        text[at] = b'0' + (value / 10 % 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    }
    text
}

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Year, month from zero, day from one, in the Gregorian calendar. Counts years from March, so that
/// the leap day is the last of its year, in eras of 400 years.
const fn civil(days_since_epoch: u64) -> (u64, usize, u64) {
    const DAYS_FROM_ERA_TO_EPOCH: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_ERA_TO_EPOCH;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let next_year = if month < 2 { 1 } else { 0 };
    (era * 400 + year + next_year, month as usize, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn known_moments() {
        for (unix_sec, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
            (1_767_225_600, "Thu, 01 Jan 2026 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(format!("{:?}", Date::at(unix_sec)), text);
        }
    }

    #[test]
    fn moving_to_another_second_is_being_made_there() {
        let mut date = Date::at(1);
        date.set(1_000_000_000);
        assert_eq!(date, Date::at(1_000_000_000));
    }
}
