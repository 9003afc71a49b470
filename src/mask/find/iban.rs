//! IBANs (ISO 13616): country, its length, mod 97; single spaces or hyphens between fours.

use super::{Found, Peek, View};
use crate::scan::class;

/// Countries of the registry with their lengths.
const LENGTHS: &[(&[u8; 2], u8)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// An IBAN at `at`, in capitals or small letters.
pub(super) fn find(view: &View<'_>, at: usize) -> Found {
    if !view.starts_word(at) {
        return Found::No;
    }
    // The four bytes that decide for nearly every word.
    let mut head = [0u8; 4];
    for (index, slot) in head.iter_mut().enumerate() {
        match view.peek(at + index) {
            Peek::Byte(byte) if index < 2 && byte.is_ascii_alphabetic() => {
                *slot = byte.to_ascii_uppercase();
            }
            Peek::Byte(byte) if index >= 2 && byte.is_ascii_digit() => *slot = byte,
            Peek::More if index < 2 => return Found::More,
            Peek::More => return if length(&head) > 0 { Found::More } else { Found::No },
            _ => return Found::No,
        }
    }
    let total = length(&head);
    let mut rest = Mod97(0);
    let mut count = head.len();
    let mut place = at + count;
    while count < total {
        match view.peek(place) {
            Peek::Byte(byte) if byte.is_ascii_alphanumeric() => {
                rest.add(byte);
                count += 1;
                place += 1;
            }
            Peek::Byte(b' ' | b'-') if count % 4 == 0 => match view.peek(place + 1) {
                Peek::Byte(byte) if byte.is_ascii_alphanumeric() => place += 1,
                Peek::More => return Found::More,
                _ => return Found::No,
            },
            Peek::More => return Found::More,
            _ => return Found::No,
        }
    }
    head.iter().for_each(|byte| rest.add(*byte));
    if total == 0 || rest.0 != 1 {
        return Found::No;
    }
    match view.peek(place) {
        Peek::Byte(byte) if class::is(byte, class::WORD) => Found::No,
        Peek::More => Found::More,
        _ => Found::Value(place),
    }
}

fn length(head: &[u8; 4]) -> usize {
    let [first, second, ..] = *head;
    LENGTHS
        .iter()
        .find(|(country, _)| **country == [first, second])
        .map_or(0, |(_, length)| usize::from(*length))
}

/// The number so far, modulo 97.
struct Mod97(u32);

impl Mod97 {
    fn add(&mut self, byte: u8) {
        self.0 = if byte.is_ascii_digit() {
            (self.0 * 10 + u32::from(byte - b'0')) % 97
        } else {
            (self.0 * 100 + u32::from(byte.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn country_length_and_check_digits_decide() {
        let at_start =
            |text: &str| find(&View { text: text.as_bytes(), left: [0; 2], end: true }, 0);
        for good in [
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "GB29NWBK60161331926819",
            "gb29 nwbk 6016 1331 9268 19",
            "NO9386011117947",
            "FR1420041010050500013M02606",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(at_start(good), Found::Value(good.len()), "{good}");
        }
        for bad in [
            "DE88370400440532013000",
            "DE893704004405320130001",
            "DE8937040044053201300",
            "XX89370400440532013000",
            "DE89 370 400440532013000",
            "DExx",
        ] {
            assert_eq!(at_start(bad), Found::No, "{bad}");
        }
        assert_eq!(at_start("DE89 3704 0044 0532 0130 00 and"), Found::Value(27));
    }
}
