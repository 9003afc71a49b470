//! Binary forms of values as the server prints them, for people (PostgreSQL's `*send` functions).

use crate::base::civil;
use std::fmt::Write as _;

/// The text of a binary value of the type with this OID (`pg_type.dat`); `None`: it has none here.
pub(super) fn text(kind: u32, value: &[u8]) -> Option<String> {
    Some(match kind {
        OID => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        FLOAT4 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        FLOAT8 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        NUMERIC => numeric(value)?,
        DATE => date(i64::from(i32::from_be_bytes(value.try_into().ok()?)))?,
        TIMESTAMP => timestamp(value)?,
        TIMESTAMPTZ => timestamp(value)? + "+00",
        // A version, and the text.
        JSONB => String::from_utf8(value.strip_prefix(b"\x01")?.to_vec()).ok()?,
        TEXT | VARCHAR | JSON | XML => String::from_utf8(value.to_vec()).ok()?,
        _ => return None,
    })
}

/// Days since 2000-01-01.
fn date(days: i64) -> Option<String> {
    let since_1970 = u64::try_from(days.checked_add(DAYS_TO_2000)?).ok()?;
    if since_1970 > DAYS_MAX {
        return None;
    }
    let (year, month, day) = civil(since_1970);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// Microseconds since 2000-01-01.
fn timestamp(value: &[u8]) -> Option<String> {
    let micros = i64::from_be_bytes(value.try_into().ok()?);
    let (days, rest) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = date(days)?;
    let _ = write!(text, " {hour:02}:{minute:02}:{second:02}");
    if micros != 0 {
        let _ = write!(text, ".{micros:06}");
    }
    Some(text)
}

/// Digits of base 10,000, the weight of the first one, a sign, and how many digits stand behind the
/// point.
fn numeric(value: &[u8]) -> Option<String> {
    let field = |place: usize| {
        let bytes = value.get(place * 2..place * 2 + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let [count, weight, sign, scale] = [field(0)?, field(1)?, field(2)?, field(3)?];
    let weight = i32::from(weight.cast_signed());
    if value.len() != 8 + 2 * usize::from(count) || scale > SCALE_MAX || weight > WEIGHT_MAX {
        return None;
    }
    let digits: Vec<u16> =
        (0..usize::from(count)).map(|at| field(4 + at)).collect::<Option<_>>()?;
    if digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let group = |power: i32| {
        let place = usize::try_from(weight - power).ok();
        place.and_then(|place| digits.get(place)).copied().unwrap_or(0)
    };
    let mut text = match sign {
        0 => String::new(),
        0x4000 => "-".to_owned(),
        0xc000 => return Some("NaN".to_owned()),
        _ => return None,
    };
    let _ = write!(text, "{}", group(weight.max(0)));
    for power in (0..weight.max(0)).rev() {
        let _ = write!(text, "{:04}", group(power));
    }
    if scale > 0 {
        text.push('.');
        let groups = i32::from(scale.div_ceil(4));
        let mut rest = String::new();
        for power in 1..=groups {
            let _ = write!(rest, "{:04}", group(-power));
        }
        text.push_str(rest.get(..usize::from(scale))?);
    }
    Some(text)
}

const XML: u32 = 142;
const TEXT: u32 = 25;
const OID: u32 = 26;
const JSON: u32 = 114;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;

const DAYS_TO_2000: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
/// The years up to 9999: of later ones, and of those before 1970, the bytes are shown.
const DAYS_MAX: u64 = 2_932_896;
/// Longer numbers are shown by their bytes.
const SCALE_MAX: u16 = 1_000;
const WEIGHT_MAX: i32 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_server_prints_them() {
        let of = |kind, value: &[u8]| text(kind, value).unwrap_or_default();
        let numeric = |fields: &[u16]| {
            let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
            of(NUMERIC, &bytes)
        };
        assert_eq!(numeric(&[2, 1, 0, 0, 1, 2345]), "12345");
        assert_eq!(numeric(&[3, 1, 0x4000, 2, 1, 0, 500]), "-10000.05");
        assert_eq!(numeric(&[1, 0xffff, 0, 6, 12]), "0.001200");
        assert_eq!(numeric(&[1, 0xfffe, 0, 8, 1]), "0.00000001");
        assert_eq!(numeric(&[0, 0, 0, 3]), "0.000");
        assert_eq!(numeric(&[1, 2, 0, 0, 7]), "700000000");
        assert_eq!(numeric(&[0, 0, 0xc000, 0]), "NaN");
        for bad in [&[2, 1, 0, 0, 1][..], &[1, 0, 0, 0, 10_000], &[0, 0, 7, 0], &[0, 0]] {
            assert_eq!(numeric(bad), "");
        }
        assert_eq!(of(DATE, &0i32.to_be_bytes()), "2000-01-01");
        assert_eq!(of(DATE, &(-10_957i32).to_be_bytes()), "1970-01-01");
        assert_eq!(of(DATE, &i32::MAX.to_be_bytes()), "");
        assert_eq!(of(TIMESTAMP, &(-1_000_001i64).to_be_bytes()), "1999-12-31 23:59:58.999999");
        assert_eq!(of(TIMESTAMPTZ, &3_600_000_000i64.to_be_bytes()), "2000-01-01 01:00:00+00");
        assert_eq!(of(TIMESTAMP, &i64::MIN.to_be_bytes()), "");
        assert_eq!(of(FLOAT8, &1.5f64.to_be_bytes()), "1.5");
        assert_eq!(of(JSONB, b"\x01{}"), "{}");
        assert_eq!(of(OID, b"\0\0\x01\0"), "256");
        assert_eq!(of(1, b"x"), "");
    }
}
