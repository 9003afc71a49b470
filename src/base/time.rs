//! Times as people and programs read them.

/// A time as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn time_text(ns: u64) -> String {
    let (days, rest) = (ns / 86_400_000_000_000, ns % 86_400_000_000_000 / 1_000_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
#[must_use]
pub fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let len = if leap(year) { 366 } else { 365 };
        if left < len {
            break;
        }
        left -= len;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_the_calendar() {
        const SECOND: u64 = 1_000_000_000;
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(951_782_400 * SECOND), "2000-02-29T00:00:00.000Z");
        assert_eq!(time_text(1_700_000_000_001_999_999), "2023-11-14T22:13:20.001Z");
    }
}
