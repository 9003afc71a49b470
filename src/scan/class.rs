//! Byte classes as one table lookup.

/// Letters, digits and `_`.
pub const WORD: u8 = 1;
/// What the local part of an e-mail address may hold: `[A-Za-z0-9._%+-]`.
pub const LOCAL: u8 = 2;
/// What a domain name may hold: `[A-Za-z0-9.-]`.
pub const DOMAIN: u8 = 4;
/// The alphabet of base64url: `[A-Za-z0-9_-]`.
pub const BASE64URL: u8 = 8;
/// Decimal digits.
pub const DIGIT: u8 = 16;
/// Letters.
pub const LETTER: u8 = 32;

/// The classes of `byte` as bits.
#[inline]
#[must_use]
pub fn of(byte: u8) -> u8 {
    TABLE.get(usize::from(byte)).copied().unwrap_or(0)
}

/// Whether `byte` is in one of `classes`.
#[inline]
#[must_use]
pub fn is(byte: u8, classes: u8) -> bool {
    of(byte) & classes != 0
}

static TABLE: [u8; 256] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within 256 entries")]
const fn table() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut at = 0usize;
    while at < 256 {
        let byte = at as u8;
        let mut bits = 0;
        if byte.is_ascii_alphanumeric() {
            bits |= WORD | LOCAL | DOMAIN | BASE64URL;
        }
        if byte.is_ascii_digit() {
            bits |= DIGIT;
        }
        if byte.is_ascii_alphabetic() {
            bits |= LETTER;
        }
        match byte {
            b'_' => bits |= WORD | LOCAL | BASE64URL,
            b'.' => bits |= LOCAL | DOMAIN,
            b'-' => bits |= LOCAL | DOMAIN | BASE64URL,
            b'%' | b'+' => bits |= LOCAL,
            _ => {}
        }
        table[at] = bits;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_definitions() {
        for byte in 0..=255u8 {
            assert_eq!(is(byte, DIGIT), byte.is_ascii_digit());
            assert_eq!(is(byte, WORD), byte.is_ascii_alphanumeric() || byte == b'_');
            assert_eq!(is(byte, LOCAL), byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte));
        }
    }
}
