//! When a notice is sent again, and when it is not.

use std::time::Duration;

/// What a receiver did with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No answer, or not in time.
    None,
    /// An answer, with the time that it asks for before another try.
    Status(u16, Option<Duration>),
}

/// What becomes of a notice after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It was taken.
    Done,
    /// Once more, after this time.
    Again(Duration),
    /// It will never be taken.
    Dead,
}

/// What comes after a try that failed `tries` times, this one included. `chance` is a random
/// number: half of the time between two tries is drawn by it.
pub(super) fn next(answer: Answer, tries: u32, chance: u32) -> Next {
    let asked = match answer {
        Answer::Status(200..=299, _) => return Next::Done,
        // Gone, or the receiver says that it will not take these bytes.
        Answer::Status(400 | 410 | 413..=415 | 422, _) => return Next::Dead,
        Answer::Status(_, asked) => asked.unwrap_or_default().min(ASKED_MAX),
        Answer::None => Duration::ZERO,
    };
    Next::Again(delay(tries, chance).max(asked))
}

/// Doubles from a second to [`DELAY_MAX`]; the upper half is by chance.
fn delay(tries: u32, chance: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(DELAY_MAX);
    let half = whole / 2;
    half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// `Retry-After`: seconds, or a time of HTTP (RFC 9110, section 10.2.3), seen from `now_s`.
pub(super) fn retry_after(value: &str, now_s: u64) -> Option<Duration> {
    let seconds = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()?
    } else {
        http_date(value)?.saturating_sub(now_s)
    };
    Some(Duration::from_secs(seconds))
}

/// Seconds since the epoch of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`; the two obsolete
/// forms are not read.
fn http_date(text: &str) -> Option<u64> {
    let rest = text.get(5..)?.strip_suffix(" GMT")?;
    let (day, rest) = rest.split_once(' ')?;
    let (month, rest) = rest.split_once(' ')?;
    let (year, time) = rest.split_once(' ')?;
    let mut parts = time.split(':');
    let mut next = |max: u64| parts.next()?.parse::<u64>().ok().filter(|part| *part <= max);
    let (hour, minute, second) = (next(23)?, next(59)?, next(60)?);
    let month = (1u64..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days before the month, counted from March (the leap day is the last of such a year).
    let (shifted_year, shifted_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = shifted_year * 365 + leaps + (shifted_month * 153 + 2) / 5 + day - 1;
    // Of 1970-01-01 in the same count.
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// After the first try.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time between two tries.
const DELAY_MAX: Duration = Duration::from_secs(3_600);
/// The most that a receiver may ask for.
const ASKED_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_tries_doubles_within_its_bounds() {
        for (tries, whole) in [(1, 1), (2, 2), (5, 16), (12, 2_048), (13, 3_600), (u32::MAX, 3_600)]
        {
            let whole = Duration::from_secs(whole);
            assert_eq!(delay(tries, 0), whole / 2);
            assert_eq!(delay(tries, u32::MAX), whole);
            let between = delay(tries, u32::MAX / 3);
            assert!(whole / 2 < between && between < whole);
        }
        assert_eq!(delay(0, 0), FIRST / 2);
    }

    #[test]
    fn an_answer_says_what_comes_next() {
        for status in [200, 202, 204, 299] {
            assert_eq!(next(Answer::Status(status, None), 1, 0), Next::Done);
        }
        for status in [400, 410, 413, 415, 422] {
            assert_eq!(next(Answer::Status(status, None), 1, 0), Next::Dead);
        }
        let half = Duration::from_millis(500);
        for status in [199, 301, 307, 401, 403, 404, 408, 409, 425, 429, 500, 503] {
            assert_eq!(next(Answer::Status(status, None), 1, 0), Next::Again(half), "{status}");
        }
        assert_eq!(next(Answer::None, 1, 0), Next::Again(half));
        let asked = |s| Some(Duration::from_secs(s));
        let next = |asked| next(Answer::Status(429, asked), 4, 0);
        assert_eq!(next(asked(1)), Next::Again(Duration::from_secs(4)), "not sooner than ours");
        assert_eq!(next(asked(60)), Next::Again(Duration::from_secs(60)));
        assert_eq!(next(asked(u64::MAX)), Next::Again(ASKED_MAX));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(retry_after("120", 5), seconds(120));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_700), seconds(77));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 800_000_000), seconds(0));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        for wrong in [
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 08:49:37 GMT",
            "\u{e9}",
            "Sun, 06 Nov 1994 18446744073709551615:49:37 GMT",
        ] {
            assert_eq!(retry_after(wrong, 0), None, "{wrong}");
        }
        assert_eq!(retry_after("99999999999999999999999", 0), None);
    }
}
