//! Text of the record on a terminal, and times.

use crate::base::civil;
pub use crate::base::time_text;

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
    fn times_are_read() {
        assert_eq!(parse_time("2000-02-29", 0), Some(951_782_400 * SECOND));
        assert_eq!(parse_time("2000-02-29T00:00:07Z", 0), Some(951_782_407 * SECOND));
        assert_eq!(parse_time("2h", 7_201 * SECOND), Some(SECOND));
        for wrong in ["", "2001-02-29", "x", "2000-02-29T25:00:00Z", "99999999999999999999d", "d"] {
            assert_eq!(parse_time(wrong, 0), None, "{wrong}");
        }
    }
}
