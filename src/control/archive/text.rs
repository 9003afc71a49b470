//! Text of the record for people, and times.

use crate::base::civil;
use crate::record::fields::{Field, Reader, Tag};
use serde_json::{Map, Value, json};

/// Text for one line of a terminal: nothing in it steers.
#[must_use]
pub fn clean(text: &str) -> String {
    escape(text, false)
}

/// The same; with `lines` its line ends and tabs stay.
#[must_use]
pub fn escape(text: &str, lines: bool) -> String {
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

/// A field's name, also where this version does not know it.
#[must_use]
pub fn field_name(field: &Field<'_>) -> String {
    field.tag().map_or_else(|| format!("field_{}", field.number), |tag| tag.name().to_owned())
}

/// A field's value: a number, text, or a digest in hexadecimal.
#[must_use]
pub fn field_value(field: &Field<'_>) -> Value {
    match field.tag() {
        Some(tag) if tag.is_number() => json!(field.as_number()),
        Some(
            Tag::TokenDigest | Tag::PolicyDigest | Tag::MaskHash | Tag::Fingerprint | Tag::Shown,
        ) => Value::String(field.value.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => Value::String(field.as_text().into_owned()),
    }
}

/// The fields of an entry's body as an object; one that repeats is a list.
#[must_use]
pub fn fields_json(body: &[u8]) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for field in Reader::new(body).map_while(Result::ok) {
        let value = field_value(&field);
        match all.get_mut(&field_name(&field)) {
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
            None => {
                all.insert(field_name(&field), value);
            }
        }
    }
    Value::Object(all)
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
