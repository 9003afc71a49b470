//! Text of the record on a terminal, and times.

pub(super) fn clean(text: &str) -> String {
    escape(text, false)
}

pub(super) fn escape(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if lines => shown.push(c),
            '\r' if lines => {}
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

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
fn civil(days: u64) -> (u64, u64, u64) {
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

/// Reads `2026-01-31`, `2026-01-31T10:20:30Z`, or an age like `90m`, `12h`, `7d` before `now_ns`.
#[must_use]
pub fn parse_time(text: &str, now_ns: u64) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    if let Some(unit) = text.chars().last().filter(|c| "smhd".contains(*c)) {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            _ => 86_400,
        };
        return Some(now_ns.saturating_sub(count.checked_mul(seconds)?.checked_mul(SECOND)?));
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, mark| -> Option<Vec<u64>> {
        text.split(mark).map(|part| part.parse().ok()).collect()
    };
    let ([year, month, day], [hour, minute, second]) = (
        <[u64; 3]>::try_from(numbers(date, '-')?).ok()?,
        <[u64; 3]>::try_from(numbers(time, ':')?).ok()?,
    );
    if !(1970..2500).contains(&year) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let from = (year - 1970) * 365;
    let days = (from..from + 600).find(|days| civil(*days) == (year, month, day))?;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(951_782_400 * SECOND), "2000-02-29T00:00:00.000Z");
        assert_eq!(parse_time("2000-02-29", 0), Some(951_782_400 * SECOND));
        assert_eq!(parse_time("2000-02-29T00:00:07Z", 0), Some(951_782_407 * SECOND));
        assert_eq!(parse_time("2h", 7_201 * SECOND), Some(SECOND));
        for wrong in ["", "2001-02-29", "x", "2000-02-29T25:00:00Z", "99999999999999999999d", "d"] {
            assert_eq!(parse_time(wrong, 0), None, "{wrong}");
        }
    }
}
