//! The shape of a text: what is left of it when its literals are taken out.
//!
//! Two texts of one shape are the same statements with other values, so this must never take out
//! more than a literal. It reads what the grammar has read before, and gives up at whatever its few
//! rules do not cover: comments, dollar quotes, strings of other kinds, numbers that are not plain
//! digits. A comment or a quote can then begin only where this reader sees it.

use super::{Act, Kind, Statement};

/// `text`, which holds `statements`, with `''` in the place of each string and `0` in that of each
/// number. `None`: it is not certain which those are, or a literal may be more than a value (text
/// that is run, the body of a definition, a setting). So this is for SELECT, INSERT, UPDATE, DELETE
/// and MERGE without functions that do more than give a result.
#[must_use]
pub fn shape(text: &[u8], statements: &[Statement]) -> Option<Vec<u8>> {
    let values = [Kind::Select, Kind::Insert, Kind::Update, Kind::Delete, Kind::Merge];
    let plain = |one: &Statement| {
        matches!(one.act, Act::None)
            && one.kinds.iter().all(|kind| values.contains(&kind))
            && one.functions.iter().all(|function| function.plain)
    };
    if statements.is_empty() || !statements.iter().all(plain) {
        return None;
    }
    // Numbers that name columns of the output, and names of sequences, are no values.
    let shape = without_literals(text)?;
    let mut words = shape.split(|byte| !is_word(*byte));
    let names = |word: &[u8]| NAMING.iter().any(|one| word.eq_ignore_ascii_case(one));
    (!words.any(names)).then_some(shape)
}

fn without_literals(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    // The byte before, and the one before that.
    let (mut last, mut earlier) = (b' ', b' ');
    while let Some((&byte, behind)) = rest.split_first() {
        let next = behind.first().copied().unwrap_or(b' ');
        let len = match byte {
            b'\'' => {
                let escapes = matches!(last, b'e' | b'E') && !is_word(earlier);
                if !escapes && (is_word(last) || last == b'&') {
                    return None;
                }
                out.extend_from_slice(b"''");
                let len = 1 + string_len(behind, escapes)?;
                // It goes on behind a line end, by its own rules of escapes.
                let space = |byte: &&u8| byte.is_ascii_whitespace() || **byte == 0x0b;
                let after = rest.get(len..)?.iter().find(|byte| !space(byte));
                if after == Some(&b'\'') {
                    return None;
                }
                len
            }
            // Its letters are told by a literal behind it.
            b'"' if last == b'&' => return None,
            b'"' => {
                let len = 1 + name_len(behind)?;
                out.extend_from_slice(rest.get(..len)?);
                len
            }
            b'-' if next == b'-' => return None,
            b'/' if next == b'*' => return None,
            // A parameter, or a part of a name; else it opens a string.
            b'$' if !is_word(last) && !next.is_ascii_digit() => return None,
            b'0'..=b'9' if !is_word(last) && !matches!(last, b'$' | b'.') => {
                out.push(b'0');
                number_len(rest)?
            }
            _ => {
                out.push(byte);
                1
            }
        };
        let read = rest.get(..len)?;
        earlier = if len > 1 { read.get(len - 2).copied()? } else { last };
        last = read.last().copied()?;
        rest = rest.get(len..)?;
    }
    Some(out)
}

/// Words behind which a literal may name something.
const NAMING: [&[u8]; 4] = [b"order", b"group", b"nextval", b"setval"];

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Up to and with the quote that ends it.
fn string_len(behind: &[u8], escapes: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        match behind.get(at)? {
            b'\\' if escapes => at += 2,
            b'\'' if behind.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn name_len(behind: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match behind.get(at)? {
            b'"' if behind.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Digits, with one point in them or behind them.
fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut len = digits(0);
    if text.get(len) == Some(&b'.') {
        len += 1 + digits(len + 1);
    }
    let end = text.get(len).copied().unwrap_or(b' ');
    (!is_word(end) && end != b'.').then_some(len)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::sql::{SqlLimits, parse};

    fn of(text: &str) -> Option<String> {
        let statements = parse(text.as_bytes(), &SqlLimits::default()).unwrap();
        let shape = shape(text.as_bytes(), &statements)?;
        Some(String::from_utf8(shape).unwrap())
    }

    #[test]
    fn values_go_and_everything_else_stays() {
        for (text, expected) in [
            ("delete from t where a = 7", "delete from t where a = 0"),
            ("delete from t where a = -7.50", "delete from t where a = -0"),
            ("update t1 set b = 'x''y' where c = $2", "update t1 set b = '' where c = $2"),
            ("select E'a\\'b', \"x'1\", t.c1 from t", "select E'', \"x'1\", t.c1 from t"),
            ("insert into t values (1, '2', 3.)", "insert into t values (0, '', 0)"),
            ("select a$1 from t; select 1", "select a$1 from t; select 0"),
            ("select '\\' || 'b'", "select '' || ''"),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_certain_has_no_shape() {
        for text in [
            "select 1 -- x",
            "select 1 /* x */",
            "select $$a$$",
            "select $a$a$a$",
            "select b'101'",
            "select x'1f'",
            "select n'a'",
            "select U&'a'",
            "select int'1'",
            "select 1e5",
            "select 0x1f",
            "select E''\n'\\' ' and id = 7 and b = E''\n'\\''",
            "select 'a'\n'b'",
            "select U&\"p!0061y\" uescape '!' from t",
            "select a from t order by 1",
            "select count(*) from t group by 1",
            "select nextval('a')",
            "select 1_000",
            "set datestyle = 'ISO'",
            "do 'begin end'",
            "select f('drop table t')",
            "create function f() returns int language sql as 'select 1'",
            "explain delete from t",
            "prepare p as delete from t",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(shape(b"select 'a", &[]), None);
        assert_eq!(without_literals(b"select 'a"), None);
        assert_eq!(without_literals(b"select \"a"), None);
    }

    proptest::proptest! {
        /// Whatever this reader takes out, the grammar has a literal there: with another one in its
        /// place the text does the same.
        #[test]
        fn another_literal_in_the_place_of_one_changes_nothing_else(
            parts in proptest::collection::vec(proptest::sample::select(PARTS), 1..14),
        ) {
            let text = parts.concat();
            let Ok(statements) = parse(text.as_bytes(), &SqlLimits::default()) else { return Ok(()) };
            let Some(shape) = shape(text.as_bytes(), &statements) else { return Ok(()) };
            let told = |all: &[Statement]| {
                all.iter().map(|one| format!("{:?} {:?} {:?} {:?}", one.kinds, one.accesses,
                    one.functions, one.missing_where)).collect::<Vec<_>>()
            };
            let again = parse(&shape, &SqlLimits::default());
            proptest::prop_assert!(again.is_ok(), "{}", text);
            proptest::prop_assert_eq!(told(&again.unwrap()), told(&statements), "{}", text);
            proptest::prop_assert_eq!(without_literals(&shape), Some(shape.clone()));
        }
    }

    const PARTS: &[&str] = &[
        "select ",
        "a",
        "1",
        " from t",
        " where ",
        "delete",
        "'",
        "''",
        "\"",
        "$$",
        "$a$",
        "--",
        "/*",
        "*/",
        "*",
        "/",
        "-",
        "\n",
        " ",
        ";",
        "E'",
        "\\",
        "U&'",
        "=",
        "x'",
        "(",
        ")",
        "$1",
        "2.5",
        ".",
        ",",
        "'b'",
        "update t set a = ",
    ];
}
