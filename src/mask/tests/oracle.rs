//! A slow oracle: says of every part of a text whether it is a value, by definition, and masks by
//! the total order: earliest start, secrets, longest, rank. It shares no code with the engine.

use super::*;

fn word(byte: Option<&u8>) -> bool {
    byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn digit(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_digit)
}

/// The text around a part.
struct Around<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl Around<'_> {
    fn at(&self, place: isize) -> Option<&u8> {
        usize::try_from(place).ok().and_then(|place| self.text.get(place))
    }
    fn before(&self, back: isize) -> Option<&u8> {
        self.at(self.start as isize - back)
    }
    fn after(&self, ahead: isize) -> Option<&u8> {
        self.at(self.end as isize + ahead)
    }
    /// A word goes on from the left; the letter of an escape is no part of a word.
    fn word_before(&self) -> bool {
        let escape =
            self.before(2) == Some(&b'\\') && self.before(1).is_some_and(|b| b"bfnrt".contains(b));
        word(self.before(1)) && !escape
    }
    fn number_starts(&self) -> bool {
        let fraction = self.before(1) == Some(&b'.') && digit(self.before(2));
        !self.word_before() && !fraction
    }
    fn number_ends(&self) -> bool {
        let fraction = self.after(0) == Some(&b'.') && digit(self.after(1));
        !word(self.after(0)) && !fraction
    }
}

fn is_email(part: &[u8], around: &Around<'_>, floor: usize) -> bool {
    let Some(sign) = part.iter().position(|b| *b == b'@') else { return false };
    let local = |b: &u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b);
    let (name, domain) = (&part[..sign], &part[sign + 1..]);
    let local_ok = (1..=64).contains(&name.len())
        && name.iter().all(local)
        && name.iter().any(u8::is_ascii_alphanumeric);
    // As far to the left as it can go.
    let escape = |far: Option<&u8>, near: &u8| far == Some(&b'\\') && b"bfnrt".contains(near);
    let longer = around.start > floor
        && around.before(1).is_some_and(|near| local(near) && !escape(around.before(2), near))
        && name.len() < 64;
    let letter = escape(around.before(1), &part[0]);
    let labels: Vec<&[u8]> = domain.split(|b| *b == b'.').collect();
    let last = labels[labels.len() - 1];
    let label_ok = |label: &&[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && label[0] != b'-'
            && label[label.len() - 1] != b'-'
    };
    let top = last.len() >= 2 && last.iter().all(u8::is_ascii_alphabetic);
    local_ok
        && !longer
        && !letter
        && labels.len() > 1
        && labels.iter().all(label_ok)
        && top
        && !around.after(0).is_some_and(u8::is_ascii_alphanumeric)
}

fn luhn(digits: &[u8]) -> bool {
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let value = u32::from(digit - b'0') * (1 + place as u32 % 2);
        sum += value / 10 + value % 10;
    }
    sum % 10 == 0
}

fn is_pan(part: &[u8], around: &Around<'_>) -> bool {
    let digits: Vec<u8> = part.iter().copied().filter(u8::is_ascii_digit).collect();
    let shape = digit(part.first())
        && digit(part.last())
        && part.iter().all(|b| b.is_ascii_digit() || b" -".contains(b))
        && !part.windows(2).any(|w| !digit(w.first()) && !digit(w.get(1)));
    if !shape || !(12..=19).contains(&digits.len()) || !luhn(&digits) {
        return false;
    }
    let text = String::from_utf8(digits).unwrap();
    let n = text.len();
    let in_range = |len: usize, low: u32, high: u32| {
        (low..=high).contains(&text[..len].parse::<u32>().unwrap())
    };
    let any = |ranges: &[(usize, u32, u32)]| ranges.iter().any(|r| in_range(r.0, r.1, r.2));
    let issuer = (any(&[(1, 4, 4)]) && matches!(n, 13 | 16 | 19))
        || (any(&[
            (2, 51, 55),
            (4, 2221, 2720),
            (4, 2200, 2204),
            (2, 60, 60),
            (2, 81, 82),
            (3, 508, 508),
        ]) && n == 16)
        || (any(&[(2, 34, 34), (2, 37, 37)]) && n == 15)
        || (any(&[(3, 300, 305), (4, 3095, 3095), (2, 36, 36), (2, 38, 39)]) && n >= 14)
        || (any(&[(4, 3528, 3589), (4, 6011, 6011), (3, 644, 649), (2, 65, 65), (2, 62, 62)])
            && n >= 16)
        || any(&[
            (2, 50, 50),
            (2, 56, 58),
            (4, 6304, 6304),
            (4, 6390, 6390),
            (4, 6759, 6759),
            (4, 6761, 6763),
        ]);
    issuer && around.number_starts() && around.number_ends()
}

fn is_iban(part: &[u8], around: &Around<'_>) -> bool {
    // The countries that the fragments below use.
    const LENGTHS: &[(&str, usize)] = &[("DE", 22), ("GB", 22), ("NO", 15)];
    if around.word_before() || word(around.after(0)) {
        return false;
    }
    let mut flat = String::new();
    for byte in part {
        match byte {
            b' ' | b'-' if flat.len().is_multiple_of(4) && !flat.is_empty() => {}
            b if b.is_ascii_alphanumeric() => flat.push(char::from(b.to_ascii_uppercase())),
            _ => return false,
        }
    }
    let separated = |at: usize| b" -".contains(&part[at]);
    if (1..part.len()).any(|at| separated(at) && separated(at - 1)) || separated(part.len() - 1) {
        return false;
    }
    let bytes = flat.as_bytes();
    let known =
        LENGTHS.iter().any(|(country, len)| flat.starts_with(country) && flat.len() == *len);
    if !known || !bytes[2..4].iter().all(u8::is_ascii_digit) || part[..4].contains(&b' ') {
        return false;
    }
    let turned = format!("{}{}", &flat[4..], &flat[..4]);
    let mut rest = 0;
    for c in turned.chars() {
        for d in c.to_digit(36).unwrap().to_string().chars() {
            rest = (rest * 10 + d.to_digit(10).unwrap()) % 97;
        }
    }
    rest == 1
}

fn is_ssn(part: &[u8], around: &Around<'_>) -> bool {
    let shape: Vec<u8> = part.iter().map(|b| if b.is_ascii_digit() { b'd' } else { *b }).collect();
    let joined = (around.before(1) == Some(&b'-') && digit(around.before(2)))
        || (around.after(0) == Some(&b'-') && digit(around.after(1)));
    shape == b"ddd-dd-dddd"
        && !matches!(&part[..3], b"000" | b"666")
        && part[0] != b'9'
        && &part[4..6] != b"00"
        && &part[7..] != b"0000"
        && around.number_starts()
        && around.number_ends()
        && !joined
}

fn is_phone(part: &[u8], around: &Around<'_>) -> bool {
    let ends_apart =
        around.number_ends() && !(around.after(0) == Some(&b'-') && digit(around.after(1)));
    let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
    if part[0] == b'+' {
        let mut gap = 0;
        for (place, byte) in part.iter().enumerate().skip(1) {
            let first_of_gap = gap == 0;
            match byte {
                b if b.is_ascii_digit() => gap = 0,
                b'.' if !first_of_gap => return false,
                b' ' | b'-' | b'.' | b'(' | b')' if place > 1 && gap < 2 => gap += 1,
                _ => return false,
            }
        }
        let length =
            if part.get(1) == Some(&b'1') { digits == 11 } else { (8..=15).contains(&digits) };
        return part.len() > 1
            && part[1] != b'0'
            && digit(part.last())
            && length
            && around.number_ends()
            && !around.word_before()
            && around.before(1) != Some(&b'+');
    }
    let joined = around.before(1).is_some_and(|b| b"-.".contains(b)) && digit(around.before(2));
    if joined || around.before(1) == Some(&b'+') || around.word_before() || !ends_apart {
        return false;
    }
    let rest = match part {
        [b'1', b'-' | b'.' | b' ', rest @ ..] => rest,
        _ => part,
    };
    let high = |byte: u8| (b'2'..=b'9').contains(&byte);
    let all = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let (area, middle, last, good) = match rest {
        [b'(', a, b, c, b')', b' ' | b'-' | b'.', d, e, f, b' ' | b'-' | b'.', g @ ..]
        | [b'(', a, b, c, b')', d, e, f, b' ' | b'-' | b'.', g @ ..] => {
            ([*a, *b, *c], [*d, *e, *f], g, true)
        }
        [a, b, c, s @ (b' ' | b'-' | b'.'), d, e, f, t, g @ ..] => {
            ([*a, *b, *c], [*d, *e, *f], g, s == t)
        }
        _ => return false,
    };
    good && last.len() == 4
        && all(&area)
        && all(&middle)
        && all(last)
        && high(area[0])
        && high(middle[0])
}

fn is_secret(part: &[u8], around: &Around<'_>) -> bool {
    if around.word_before() {
        return false;
    }
    let body64 = |b: &u8| b.is_ascii_alphanumeric() || b"_-".contains(b);
    let wordy = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let aws = (part.starts_with(b"AKIA") || part.starts_with(b"ASIA"))
        && part.len() == 20
        && part.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && !word(around.after(0));
    let sk = part.starts_with(b"sk-")
        && part.len() >= 23
        && part[3..].iter().all(body64)
        && part[3..23].iter().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && !around.after(0).is_some_and(body64);
    let github = part.starts_with(b"ghp_")
        && part.len() >= 40
        && part[4..].iter().all(wordy)
        && !word(around.after(0));
    aws || sk || github
}

fn naive(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut floor = 0;
    while at < text.len() {
        let longest = |is: &dyn Fn(&[u8], &Around<'_>) -> bool| {
            (at + 1..=text.len().min(at + 400))
                .rev()
                .find(|end| is(&text[at..*end], &Around { text, start: at, end: *end }))
        };
        let secret = longest(&is_secret).map(|end| ("[SECRET]", end));
        let mut best: Option<(&str, usize)> = secret;
        if best.is_none() {
            for (label, end) in [
                ("[EMAIL]", longest(&|part, around| is_email(part, around, floor))),
                ("[PAN]", longest(&is_pan)),
                ("[IBAN]", longest(&is_iban)),
                ("[US_SSN]", longest(&is_ssn)),
                ("[PHONE]", longest(&is_phone)),
            ] {
                if let Some(end) = end
                    && best.is_none_or(|(_, old)| end > old)
                {
                    best = Some((label, end));
                }
            }
        }
        match best {
            Some((label, end)) => {
                out.extend_from_slice(label.as_bytes());
                at = end;
                floor = end;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

const FRAGMENTS: &[&str] = &[
    "bob",
    "@",
    "example.com",
    ".",
    "-",
    " ",
    "4111 1111 1111 1111",
    "5555555555554444",
    "4111",
    "1111",
    "378282246310005",
    "123-45-6789",
    "000-12-3456",
    "DE89370400440532013000",
    "DE89 3704 0044 0532 0130 00",
    "NO9386011117947",
    "gb29 nwbk 6016 1331 9268 19",
    "415-555-2671",
    "(415) 555-2671",
    "+44 20 7946 0958",
    "+14155552671",
    "+",
    "1-",
    "AKIAIOSFODNN7EXAMPLE",
    "sk-Abcdefghij0123456789",
    "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
    "sk-",
    "_",
    "x",
    "7",
    "\n",
    ",",
    "(",
    ")",
    "\u{e9}",
    "a@b.co",
    "@@",
    "..",
    "x.y-z",
    "%",
    "user+tag",
    "e",
    "DE",
    "sk",
    "\\n",
    "\\",
    "t",
    "6011111111111117",
    "30569309025904",
    "555 1234",
    "co.uk",
    "A",
    "g",
];

#[test]
fn the_engine_agrees_with_the_oracle_on_random_text() {
    let seed = 0x0dd_ba11;
    let mut random = Random(seed);
    let plan = plan(ALL, &[], "redact");
    for round in 0..500 {
        let count = 1 + random.below(9);
        let text: String = (0..count).map(|_| *random.pick(FRAGMENTS)).collect();
        let expected = String::from_utf8(naive(text.as_bytes())).unwrap();
        let whole = masked(&plan, Content::Text, &[text.as_bytes()]).unwrap();
        let whole = String::from_utf8(whole).unwrap();
        assert_eq!(whole, expected, "seed {seed:x}, round {round}: {text}");
        if round % 25 == 0 {
            assert_eq!(however_cut(&plan, Content::Text, text.as_bytes()), expected);
        }
        let cut = random.below(text.len() + 1);
        let parts = [&text.as_bytes()[..cut], &text.as_bytes()[cut..]];
        let parts = masked(&plan, Content::Text, &parts).unwrap();
        assert_eq!(String::from_utf8(parts).unwrap(), expected, "round {round}, cut {cut}: {text}");
    }
}
