//! Card numbers, social security numbers, phone numbers.

use super::{Found, Peek, View};

/// Issuer prefixes: lowest, highest, how many digits those have, and the lengths as bits.
const ISSUERS: &[(u32, u32, usize, u32)] = &[
    (4, 4, 1, bits(&[13, 16, 19])),                           // Visa
    (51, 55, 2, bits(&[16])),                                 // Mastercard
    (2221, 2720, 4, bits(&[16])),                             // Mastercard
    (34, 34, 2, bits(&[15])),                                 // American Express
    (37, 37, 2, bits(&[15])),                                 // American Express
    (300, 305, 3, bits(&[14, 15, 16, 17, 18, 19])),           // Diners Club
    (3095, 3095, 4, bits(&[14, 15, 16, 17, 18, 19])),         // Diners Club
    (36, 36, 2, bits(&[14, 15, 16, 17, 18, 19])),             // Diners Club
    (38, 39, 2, bits(&[14, 15, 16, 17, 18, 19])),             // Diners Club
    (3528, 3589, 4, bits(&[16, 17, 18, 19])),                 // JCB
    (6011, 6011, 4, bits(&[16, 17, 18, 19])),                 // Discover
    (644, 649, 3, bits(&[16, 17, 18, 19])),                   // Discover
    (65, 65, 2, bits(&[16, 17, 18, 19])),                     // Discover
    (62, 62, 2, bits(&[16, 17, 18, 19])),                     // UnionPay
    (50, 50, 2, bits(&[12, 13, 14, 15, 16, 17, 18, 19])),     // Maestro
    (56, 58, 2, bits(&[12, 13, 14, 15, 16, 17, 18, 19])),     // Maestro
    (6304, 6304, 4, bits(&[12, 13, 14, 15, 16, 17, 18, 19])), // Maestro
    (6390, 6390, 4, bits(&[12, 13, 14, 15, 16, 17, 18, 19])), // Maestro
    (6759, 6759, 4, bits(&[12, 13, 14, 15, 16, 17, 18, 19])), // Maestro
    (6761, 6763, 4, bits(&[12, 13, 14, 15, 16, 17, 18, 19])), // Maestro
    (2200, 2204, 4, bits(&[16])),                             // Mir
    (60, 60, 2, bits(&[16])),                                 // RuPay
    (81, 82, 2, bits(&[16])),                                 // RuPay
    (508, 508, 3, bits(&[16])),                               // RuPay
];
const PAN_MAX: usize = 19;
/// After so many digits the issuer is certain.
const PREFIX_MAX: usize = 4;

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within the slice")]
const fn bits(lengths: &[u32]) -> u32 {
    let mut all = 0;
    let mut at = 0;
    while at < lengths.len() {
        all |= 1 << lengths[at];
        at += 1;
    }
    all
}

/// The lengths that a number with this start may have, as bits.
///
/// Digit-dense text asks this for every number, so it is a table: one entry for each start of one
/// to four digits, which holds the lengths from 12 on.
fn lengths(digits: &[u8]) -> u32 {
    let known = digits.get(..digits.len().min(PREFIX_MAX)).unwrap_or_default();
    let value = known.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let start = FIRST.get(known.len()).copied().unwrap_or(0);
    LENGTHS.get(start + value).map_or(0, |bits| u32::from(*bits) << PAN_MIN)
}

const PAN_MIN: usize = 12;
/// Where the starts of so many digits begin in [`LENGTHS`].
const FIRST: [usize; PREFIX_MAX + 1] = [0, 1, 11, 111, 1_111];
static LENGTHS: [u8; 11_111] = length_table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within the table")]
const fn length_table() -> [u8; 11_111] {
    let mut table = [0; 11_111];
    let mut row = 0;
    while row < ISSUERS.len() {
        let (low, high, len, lengths) = ISSUERS[row];
        let mut known = 0;
        while known <= PREFIX_MAX {
            // Digits that the prefix and the start share; what goes beyond either is free.
            let shared = if known < len { known } else { len };
            let from = low as usize / pow10(len - shared) * pow10(known - shared);
            let to = (high as usize / pow10(len - shared) + 1) * pow10(known - shared);
            let mut value = from;
            while value < to {
                table[FIRST[known] + value] |= (lengths >> PAN_MIN) as u8;
                value += 1;
            }
            known += 1;
        }
        row += 1;
    }
    table
}

const fn pow10(exponent: usize) -> usize {
    let (mut power, mut left) = (1, exponent);
    while left > 0 {
        power *= 10;
        left -= 1;
    }
    power
}

/// Whether `digits` (12 to 19 of them) are a card number: issuer, length, Luhn.
pub(in crate::mask) fn is_pan(digits: &[u8]) -> bool {
    digits.len() <= PAN_MAX && lengths(digits) >> digits.len() & 1 == 1 && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, double) if double > 9 => double - 9,
                (_, double) => double,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A card number at `at`; single spaces or hyphens may stand between its digits. The longest
/// possible length that ends at a separator or at the end of the digits counts.
pub(super) fn pan(view: &View<'_>, at: usize) -> Found {
    if !view.starts_number(at) {
        return Found::No;
    }
    let mut digits = [0u8; PAN_MAX];
    let mut count = 0;
    let mut place = at;
    let mut possible = u32::MAX;
    let mut best = None;
    loop {
        match view.peek(place) {
            Peek::Byte(byte) if byte.is_ascii_digit() => {
                let Some(slot) = digits.get_mut(count) else { break };
                *slot = byte;
                count += 1;
                place += 1;
                let so_far = digits.get(..count).unwrap_or_default();
                if count <= PREFIX_MAX {
                    possible = lengths(so_far);
                }
                if possible >> count & 1 == 1 && luhn(so_far) {
                    match view.ends_number(place) {
                        Some(true) => best = Some(place),
                        Some(false) => {}
                        None => return Found::More,
                    }
                }
                // No longer number begins like this.
                if possible >> count <= 1 {
                    break;
                }
            }
            Peek::Byte(b' ' | b'-') if count > 0 => match view.peek(place + 1) {
                Peek::Byte(byte) if byte.is_ascii_digit() => place += 1,
                Peek::More => return Found::More,
                _ => break,
            },
            Peek::More => return Found::More,
            _ => break,
        }
    }
    best.map_or(Found::No, Found::Value)
}

/// `ddd-dd-dddd` with an area, group and serial that are issued.
pub(super) fn ssn(view: &View<'_>, at: usize) -> Found {
    let joined = view.before(at, 1) == b'-' && view.before(at, 2).is_ascii_digit();
    if joined || !view.starts_number(at) {
        return Found::No;
    }
    let mut digits = [0u8; 9];
    let mut slots = digits.iter_mut();
    for place in 0..11 {
        match (view.peek(at + place), place) {
            (Peek::Byte(b'-'), 3 | 6) => {}
            (Peek::Byte(byte), 0..=2 | 4..=5 | 7..) if byte.is_ascii_digit() => {
                if let Some(slot) = slots.next() {
                    *slot = byte;
                }
            }
            (Peek::More, _) => return Found::More,
            _ => return Found::No,
        }
    }
    let [area @ .., g1, g2, s1, s2, s3, s4] = &digits;
    let issued = area != b"000" && area != b"666" && area.first() != Some(&b'9');
    if !issued || [*g1, *g2] == *b"00" || [*s1, *s2, *s3, *s4] == *b"0000" {
        return Found::No;
    }
    ends_apart(view, at + 11)
}

/// A number that ends before `end`, unless a hyphen and a digit follow.
fn ends_apart(view: &View<'_>, end: usize) -> Found {
    if view.peek(end) == Peek::Byte(b'-') {
        return match view.peek(end + 1) {
            Peek::Byte(byte) if byte.is_ascii_digit() => Found::No,
            Peek::More => Found::More,
            _ => Found::Value(end),
        };
    }
    match view.ends_number(end) {
        Some(true) => Found::Value(end),
        Some(false) => Found::No,
        None => Found::More,
    }
}

/// A phone number at `at`.
pub(super) fn phone(view: &View<'_>, at: usize) -> Found {
    match view.text.get(at) {
        Some(b'+') => international(view, at),
        _ => north_american(view, at),
    }
}

const E164_MIN: usize = 8;
const E164_MAX: usize = 15;

/// `+`, then 8 to 15 digits (11 behind `+1`), with at most two of ` -.()` between two of them.
fn international(view: &View<'_>, at: usize) -> Found {
    if !view.starts_word(at) || view.before(at, 1) == b'+' {
        return Found::No;
    }
    let mut place = at + 1;
    let mut count = 0;
    let mut best = None;
    let mut most = E164_MAX;
    loop {
        match view.peek(place) {
            Peek::Byte(b'0') if count == 0 => return Found::No,
            Peek::Byte(byte) if byte.is_ascii_digit() => {
                if count == 0 && byte == b'1' {
                    most = 11;
                }
                count += 1;
                place += 1;
                if count >= E164_MIN && (most == E164_MAX || count == most) {
                    match view.ends_number(place) {
                        Some(true) => best = Some(place),
                        Some(false) => {}
                        None => return Found::More,
                    }
                }
                if count == most {
                    break;
                }
            }
            Peek::Byte(b' ' | b'-' | b'.' | b'(' | b')') if count > 0 => {
                let mut next = place + 1;
                if matches!(view.peek(next), Peek::Byte(b' ' | b'-' | b'(' | b')')) {
                    next += 1;
                }
                match view.peek(next) {
                    Peek::Byte(byte) if byte.is_ascii_digit() => place = next,
                    Peek::More => return Found::More,
                    _ => break,
                }
            }
            Peek::More => return Found::More,
            _ => break,
        }
    }
    best.map_or(Found::No, Found::Value)
}

/// `ddd-ddd-dddd` with `-`, `.` or a space twice, or `(ddd) ddd-dddd`; `1` may stand before it.
fn north_american(view: &View<'_>, at: usize) -> Found {
    let near = view.before(at, 1);
    let joined = matches!(near, b'-' | b'.') && view.before(at, 2).is_ascii_digit();
    if joined || near == b'+' || !view.starts_word(at) {
        return Found::No;
    }
    let mut place = at;
    if view.peek(place) == Peek::Byte(b'1') {
        match view.peek(place + 1) {
            Peek::Byte(b'-' | b'.' | b' ') => place += 2,
            Peek::More => return Found::More,
            _ => return Found::No,
        }
    }
    let bracket = view.peek(place) == Peek::Byte(b'(');
    place += usize::from(bracket);
    if let Err(found) = digits(view, &mut place, 3, true) {
        return found;
    }
    let mut separator = None;
    if bracket {
        match view.peek(place) {
            Peek::Byte(b')') => place += 1,
            Peek::More => return Found::More,
            _ => return Found::No,
        }
        match view.peek(place) {
            Peek::Byte(b' ' | b'-' | b'.') => place += 1,
            Peek::More => return Found::More,
            _ => {}
        }
    } else {
        match view.peek(place) {
            Peek::Byte(byte @ (b'-' | b'.' | b' ')) => separator = Some(byte),
            Peek::More => return Found::More,
            _ => return Found::No,
        }
        place += 1;
    }
    if let Err(found) = digits(view, &mut place, 3, true) {
        return found;
    }
    match view.peek(place) {
        Peek::Byte(byte @ (b'-' | b'.' | b' ')) if separator.is_none_or(|s| s == byte) => {
            place += 1;
        }
        Peek::More => return Found::More,
        _ => return Found::No,
    }
    if let Err(found) = digits(view, &mut place, 4, false) {
        return found;
    }
    ends_apart(view, place)
}

/// Moves `place` over `count` digits; the first is 2 to 9 where `high`.
fn digits(view: &View<'_>, place: &mut usize, count: usize, high: bool) -> Result<(), Found> {
    for index in 0..count {
        match view.peek(*place) {
            Peek::Byte(b'0' | b'1') if high && index == 0 => return Err(Found::No),
            Peek::Byte(byte) if byte.is_ascii_digit() => *place += 1,
            Peek::More => return Err(Found::More),
            _ => return Err(Found::No),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_starts_agrees_with_the_rows() {
        for number in 0..10_000u32 {
            let text = format!("{number:04}");
            for known in 0..=4 {
                let start = text.get(..known).unwrap_or_default();
                let expected = ISSUERS.iter().fold(0, |all, (low, high, len, lengths)| {
                    let fits = (*low..=*high).any(|prefix| {
                        let prefix = prefix.to_string();
                        prefix.starts_with(start) || start.starts_with(&prefix)
                    });
                    debug_assert_eq!(low.to_string().len(), *len);
                    if fits { all | lengths } else { all }
                });
                assert_eq!(lengths(start.as_bytes()), expected, "{start}");
            }
        }
    }

    fn at_start(find: fn(&View<'_>, usize) -> Found, text: &str) -> Found {
        find(&View { text: text.as_bytes(), left: [0; 2], end: true }, 0)
    }

    #[test]
    fn cards_need_issuer_length_and_luhn() {
        for good in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "378282246310005",
            "5555555555554444",
            "2223003122003222",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "4222222222222",
            "6304000000000000",
        ] {
            assert_eq!(at_start(pan, good), Found::Value(good.len()), "{good}");
            assert!(is_pan(good.replace([' ', '-'], "").as_bytes()));
        }
        for bad in [
            "4111111111111112",
            "1234567812345670",
            "4111  1111 1111 1111",
            "41111111111111110",
            "4111111111111111a",
            "4111111111111111.5",
            "411111111111111",
            "9999999999999995",
        ] {
            assert_eq!(at_start(pan, bad), Found::No, "{bad}");
        }
        assert_eq!(at_start(pan, "4111111111111111. 5"), Found::Value(16));
        assert_eq!(at_start(pan, "4111 1111 1111 1111 12"), Found::Value(19));
    }

    #[test]
    fn social_security_numbers_are_dashed_and_issued() {
        assert_eq!(at_start(ssn, "123-45-6789"), Found::Value(11));
        assert_eq!(at_start(ssn, "123-45-6789-"), Found::Value(11));
        for bad in [
            "000-45-6789",
            "666-45-6789",
            "900-45-6789",
            "123-00-6789",
            "123-45-0000",
            "123-45-67890",
            "123-45-6789-1",
            "123 45 6789",
            "123-456-789",
        ] {
            assert_eq!(at_start(ssn, bad), Found::No, "{bad}");
        }
    }

    #[test]
    fn phone_numbers_in_their_usual_forms() {
        for good in [
            "+14155552671",
            "+1 (415) 555-2671",
            "+44 20 7946 0958",
            "+44 (0)20 7946 0958",
            "+49-30-901820",
            "415-555-2671",
            "(415) 555-2671",
            "(415)555-2671",
            "1-415-555-2671",
            "415.555.2671",
            "415 555 2671",
        ] {
            assert_eq!(at_start(phone, good), Found::Value(good.len()), "{good}");
        }
        for bad in [
            "+0123456789",
            "+1234",
            "+1415555267",
            "4155552671",
            "115-555-2671",
            "415-155-2671",
            "415-555-26711",
            "415-555.2671",
            "415-555-2671-9",
            "(415 555-2671",
            "+1415555267100",
        ] {
            assert_eq!(at_start(phone, bad), Found::No, "{bad}");
        }
        assert_eq!(at_start(phone, "+14155552671 2024"), Found::Value(12));
    }
}
