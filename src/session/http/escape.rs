//! Clearing what may be escaped: targets and fields of heads, for the record and for the caller.
//!
//! A value hides neither behind percent escapes (RFC 3986, section 2.1), nor behind escapes of
//! escapes, nor behind the `+` of a form. What a mask finds behind them is written anew, with the
//! escapes that it needs; what it does not find stays as it came.

use crate::mask::{MaskError, Plan, clear_value};

/// Clears `raw`, looking at it decoded too. With `form` a `+` is a blank.
///
/// # Errors
/// [`MaskError`] when the mask blocks it.
pub(super) fn clear_escaped(
    plan: &Plan,
    raw: &[u8],
    form: bool,
    to: &mut Vec<u8>,
) -> Result<(), MaskError> {
    let escaped = raw.contains(&b'%') || (form && raw.contains(&b'+'));
    if plan.is_pass() || !escaped {
        return clear_value(plan, raw, to);
    }
    let mut levels = vec![decode(raw, form)];
    while levels.len() < LEVELS_MAX
        && let Some(last) = levels.last().filter(|last| last.contains(&b'%'))
    {
        let deeper = decode(last, false);
        if deeper == *last {
            break;
        }
        levels.push(deeper);
    }
    let mut cleared = Vec::new();
    for level in levels.iter().rev() {
        cleared.clear();
        clear_value(plan, level, &mut cleared)?;
        if cleared != *level {
            encode(&cleared, to);
            return Ok(());
        }
    }
    clear_value(plan, raw, to)
}

/// Clears a head as the gateway writes it: a request line and fields, each with its line end.
///
/// # Errors
/// [`MaskError`] when the mask blocks something in it.
pub(super) fn clear_head(plan: &Plan, head: &[u8], to: &mut Vec<u8>) -> Result<(), MaskError> {
    if plan.is_pass() || memchr::memchr2(b'%', b'+', head).is_none() {
        return clear_value(plan, head, to);
    }
    let mut plain = Vec::with_capacity(head.len());
    for (place, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if place == 0 {
            clear_request_line(plan, line, &mut plain)?;
            continue;
        }
        let colon = memchr::memchr(b':', line).map_or(0, |colon| colon + 1);
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
        let text = value.trim_ascii_end();
        plain.extend_from_slice(name);
        let blank = text.len() - text.trim_ascii_start().len();
        plain.extend_from_slice(text.get(..blank).unwrap_or_default());
        clear_escaped(plan, text.trim_ascii_start(), false, &mut plain)?;
        plain.extend_from_slice(value.get(text.len()..).unwrap_or_default());
    }
    // What spans parts, too.
    clear_value(plan, &plain, to)
}

fn clear_request_line(plan: &Plan, line: &[u8], to: &mut Vec<u8>) -> Result<(), MaskError> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, target, rest) = (word(), word(), word());
    to.extend_from_slice(method);
    to.push(b' ');
    let mark = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at_checked(mark).unwrap_or((target, b""));
    clear_escaped(plan, path, false, to)?;
    let mut part = 0;
    // Between any two of these stands a name or a value; the marks stay where they are.
    for (place, byte) in query.iter().enumerate() {
        if matches!(byte, b'?' | b'&' | b';' | b'=') {
            clear_escaped(plan, query.get(part..place).unwrap_or_default(), true, to)?;
            to.push(*byte);
            part = place + 1;
        }
    }
    clear_escaped(plan, query.get(part..).unwrap_or_default(), true, to)?;
    to.push(b' ');
    to.extend_from_slice(rest);
    Ok(())
}

fn decode(raw: &[u8], form: bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.split_at_checked(2).filter(|_| byte == b'%');
        let decoded = digits.and_then(|(digits, tail)| {
            let text = std::str::from_utf8(digits).ok()?;
            // `from_str_radix` takes a sign.
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            Some((u8::from_str_radix(text, 16).ok().filter(|_| hex)?, tail))
        });
        match decoded {
            Some((decoded, tail)) => {
                plain.push(decoded);
                rest = tail;
            }
            None => {
                plain.push(if form && byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    plain
}

fn encode(plain: &[u8], to: &mut Vec<u8>) {
    for byte in plain {
        match byte {
            0..=b' '
            | 0x7f..
            | b'%'
            | b'&'
            | b'='
            | b'#'
            | b'+'
            | b';'
            | b'?'
            | b'"'
            | b'<'
            | b'>'
            | b'\\' => {
                let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
                to.push(b'%');
                to.push(digit(byte >> 4).to_ascii_uppercase() as u8);
                to.push(digit(byte & 15).to_ascii_uppercase() as u8);
            }
            byte => to.push(*byte),
        }
    }
}

/// Escapes of escapes that are looked behind.
const LEVELS_MAX: usize = 4;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{MaskId, MaskSet, Secret};
    use crate::mask::{Detector, MaskSpec, Operators, Plans};

    fn plan(detect: &[&str]) -> std::sync::Arc<Plan> {
        let spec = MaskSpec {
            name: "pii".into(),
            detect: detect.iter().map(|name| Detector::parse(name).unwrap()).collect(),
            fields: Vec::new(),
            operators: Operators::default(),
            key: Secret::new(b"0123456789abcdef".to_vec()),
            ..MaskSpec::default()
        };
        Plans::new(vec![spec]).unwrap().united(MaskSet::EMPTY.with(MaskId(0)))
    }

    fn head(plan: &Plan, text: &str) -> String {
        let mut to = Vec::new();
        clear_head(plan, text.as_bytes(), &mut to).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_value_hides_behind_no_escape() {
        let plan = plan(&["email", "pan", "us_ssn"]);
        for (target, cleared) in [
            ("/a?mail=ana@example.com", "/a?mail=[EMAIL]"),
            ("/a?mail=ana%40example.com&b=%2f", "/a?mail=[EMAIL]&b=%2f"),
            ("/a?mail=%61na%2540example%252Ecom", "/a?mail=[EMAIL]"),
            ("/a?next=%2Fx%3Fmail%3Dana%40example.com%26y", "/a?next=/x%3Fmail%3D[EMAIL]%26y"),
            ("/a?card=4111+1111+1111+1111", "/a?card=[PAN]"),
            ("/a?card=4111%201111%201111%201111;x", "/a?card=[PAN];x"),
            ("/a?078%2D05%2D1120", "/a?[US_SSN]"),
            ("/u/ana%40example.com/x?q", "/u/[EMAIL]/x?q"),
            ("/a?q=50%&r=%zz+%4", "/a?q=50%&r=%zz+%4"),
            ("/a?q=a+b%20c", "/a?q=a+b%20c"),
            ("/a", "/a"),
        ] {
            let line = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: h\r\n");
            assert_eq!(head(&plan, &line(target)), line(cleared), "{target}");
        }
        let fields = "GET /+ HTTP/1.1\r\nhost: h\r\nreferer: https://x/?m=ana%40example.com\r\n\
                      x: 50% off\r\n";
        let cleared = "GET /+ HTTP/1.1\r\nhost: h\r\nreferer: https://x/%3Fm%3D[EMAIL]\r\n\
                       x: 50% off\r\n";
        assert_eq!(head(&plan, fields), cleared);
        let pass = Plan::pass();
        assert_eq!(head(&pass, fields), fields, "without a mask it stays");
    }
}
