//! What a caller of a database says of the work that it does: by `application_name`, by `options`
//! and by a comment at the end of a statement (the convention of sqlcommenter).
//!
//! ```text
//! application_name=lg/<thread>/<node>
//! options=-c weirgate.node=<node> -c weirgate.run=<run> -c weirgate.thread=<thread>
//! select 1 /*node='plan',run='7',traceparent='00-..'*/
//! delete from t where id = 7 /*reason='ticket%204711'*/
//! ```
//!
//! `reason` is what a rule that lets the caller break the glass asks for.
//!
//! The comment counts before the options, and those before the name. It is taken off before the
//! statement is looked up, so that one that differs by its comment alone is not read again. Values
//! are percent-encoded; a comment of any other form is a comment and stays.

use crate::session::asserted::{Asserted, Said};
use std::borrow::Cow;

/// Takes in what an application's name says.
pub(super) fn application(name: &[u8], into: &mut Asserted) {
    let Some(rest) = name.strip_prefix(b"lg/") else { return };
    let cut = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (thread, node) = rest.split_at_checked(cut).unwrap_or_default();
    into.set(Said::Thread, thread);
    into.set(Said::Node, node.get(1..).unwrap_or_default());
}

/// Which value a setting of `options` is; such a setting is not the server's.
pub(super) fn setting(name: &[u8]) -> Option<Said> {
    let prefix = b"weirgate.";
    let (begin, key) = name.split_at_checked(prefix.len())?;
    if begin.eq_ignore_ascii_case(prefix) { Said::of(key) } else { None }
}

/// Longest comment, with its marks.
const COMMENT_MAX: usize = 4_096;
/// Most comments that are taken off.
const COMMENTS_MAX: usize = 4;
/// Longest key.
const KEY_MAX: usize = 64;

/// The text without its last comment, and what that says.
///
/// Where the text before it can be read, what is taken off is white space to the server: that text
/// ends outside of strings and block comments, or in a line comment, which the other is a part of as
/// a whole, since it has no line end. Where it cannot be read, it is judged as such.
pub(super) fn split(text: &[u8]) -> (&[u8], Asserted) {
    let (mut core, mut asserted) = (text, Asserted::default());
    // Who traces a statement may have put its own comment behind.
    for _ in 0..COMMENTS_MAX {
        let (left, said) = split_one(core);
        if left.len() == core.len() {
            break;
        }
        core = left;
        asserted = asserted.over(&said);
    }
    (core, asserted)
}

fn split_one(text: &[u8]) -> (&[u8], Asserted) {
    let whole = || (text, Asserted::default());
    let end = text.trim_ascii_end();
    let end = end.strip_suffix(b";").unwrap_or(end).trim_ascii_end();
    let Some(open) = end.strip_suffix(b"*/") else { return whole() };
    let from = open.len().saturating_sub(COMMENT_MAX);
    let near = open.get(from..).unwrap_or_default();
    let Some(start) = near.windows(2).rposition(|two| two == b"/*") else { return whole() };
    let (core, inner) = open.split_at_checked(from + start).unwrap_or_default();
    match pairs(inner.get(2..).unwrap_or_default()) {
        Some(asserted) => (core.trim_ascii_end(), asserted),
        None => whole(),
    }
}

/// Reads `key='value',..`; `None` where it is anything else.
fn pairs(mut text: &[u8]) -> Option<Asserted> {
    let mut asserted = Asserted::default();
    loop {
        let equals = text.iter().position(|byte| *byte == b'=')?;
        let (key, rest) = text.split_at_checked(equals)?;
        let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if key.is_empty() || key.len() > KEY_MAX || !key.iter().all(named) {
            return None;
        }
        let rest = rest.strip_prefix(b"='")?;
        let quote = rest.iter().position(|byte| *byte == b'\'')?;
        let (value, rest) = rest.split_at_checked(quote)?;
        // Not all encode what they should; a line end or a mark of a comment is something else.
        let plain = |byte: &u8| !byte.is_ascii_control() && !matches!(byte, b'*' | b'\\');
        if !value.iter().all(plain) {
            return None;
        }
        if let Some(said) = Said::of(key) {
            // What cannot be decoded is unreadable, as a control character is.
            asserted.set(said, decoded(value).as_deref().unwrap_or(b"\0"));
        }
        match rest.strip_prefix(b"'")? {
            [] => return Some(asserted),
            more => text = more.strip_prefix(b",")?,
        }
    }
}

/// A percent-encoded value (RFC 3986, section 2.1); `None` where an escape is cut.
fn decoded(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'%') {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = value.iter();
    let mut to = Vec::with_capacity(value.len());
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            to.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            to.push(*byte);
        }
    }
    Some(Cow::Owned(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Attr;

    fn core(text: &str) -> (&str, Asserted) {
        let (core, asserted) = split(text.as_bytes());
        (std::str::from_utf8(core).expect("text"), asserted)
    }

    #[test]
    fn a_comment_of_the_convention_is_taken_off_and_no_other() {
        for text in [
            "select 1/*node='plan'*/",
            "select 1 /*run='r%2F7',node='plan',traceparent='00-ab-01'*/",
            "select 1\n/*Node='plan'*/ ;\n",
            "select 1 /*a.b='',node='plan'*/;",
        ] {
            let (core, asserted) = core(text);
            assert_eq!((core, asserted.lend().node), ("select 1", Attr::Value(b"plan")), "{text}");
        }
        assert_eq!(core("select 1 /*run='r%2F7'*/").1.lend().run, Attr::Value(b"r/7"));
        assert_eq!(core("select 1 /*run='a:b /c'*/").1.lend().run, Attr::Value(b"a:b /c"));
        assert_eq!(core("select 1 /*run='%4'*/").1.lend().run, Attr::Unreadable);
        let (left, asserted) = core("select 1 /*node='plan',run='1'*/ /*run='2'*/ /*a='b'*/");
        assert_eq!((left, asserted.lend().node), ("select 1", Attr::Value(b"plan")));
        assert_eq!(asserted.lend().run, Attr::Value(b"2"));
        for text in [
            "select 1",
            "select 1 /* node='plan' */",
            "select 1 /*node=plan*/",
            "select 1 /*node='plan'*/ + 1",
            "select 1 /*node='a\nb'*/",
            "select 1 /*node='a',*/",
            "select 1 /*node='a''b'*/",
            "select 1 /*node='a*/",
            "select 1 /**/",
            "select 1 /*node='plan'*/;;",
            "*/",
            "",
        ] {
            let (left, asserted) = core(text);
            assert_eq!(left, text);
            assert!(asserted.is_empty());
        }
        let long = format!("select 1 /*node='{}'*/", "x".repeat(COMMENT_MAX));
        assert_eq!(core(&long).0, long);
    }

    #[test]
    fn what_is_left_means_what_the_whole_means() {
        let comments = ["/*node='x'*/", "/*node='x',run='y'*/", " /*node='x'*/;", "\n/*a='x'*/"];
        for start in [
            "select a from t",
            "select 1 -- drop",
            "select 1 --",
            "select 'a",
            "select 'a' 'b",
            "select E'a\\",
            "select \"a",
            "select $$a",
            "select $t$a",
            "select $t",
            "select /* a",
            "select /* /* a */",
            "select 1 /",
            "select 1 *",
            "select 1 -",
            "select U&'a",
            "select 1; delete from t",
            "delete from t where a = 'x'",
            "",
        ] {
            for comment in comments {
                assert!(means_the_same(&format!("{start}{comment}")));
            }
        }
    }

    /// Whether something is taken off; what is left is read as the whole is, or not at all.
    fn means_the_same(whole: &str) -> bool {
        let (left, _) = split(whole.as_bytes());
        let read = |text: &[u8]| {
            let statements = crate::sql::parse(text, &crate::sql::SqlLimits::default()).ok()?;
            let told = statements
                .iter()
                .map(|one| format!("{:?} {:?} {:?}", one.kinds, one.accesses, one.missing_where));
            Some(told.collect::<Vec<_>>())
        };
        if let Some(left) = read(left) {
            assert_eq!(Some(left), read(whole.as_bytes()), "{whole:?}");
        }
        left.len() < whole.len()
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_before_it_means_the_same_without_it(
            parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..12),
            comment in proptest::sample::select(COMMENTS),
        ) {
            proptest::prop_assert!(means_the_same(&(parts.concat() + comment)));
        }
    }

    const PARTS: &[&str] = &[
        "select ", "a", "1", " from t", " where ", "delete", "'", "''", "\"", "$$", "$a$", "--",
        "/*", "*/", "*", "/", "-", "\n", " ", ";", "E'", "\\", "U&'", "=", "x'", "(", ")", "$1",
        "\r",
    ];
    const COMMENTS: &[&str] = &[
        "/*node='x'*/",
        "/*node='x',run='y'*/",
        " /*node='x'*/;",
        "\n/*a='x'*/",
        "/*a=''*/ ; ",
        "/*a='--'*/",
        "/*a='/; \" $$ //'*/",
        "/*node='x'*/ /*a='b'*/",
        "/*a='-'*/\n",
    ];

    #[test]
    fn names_and_settings_say_it_too() {
        let mut asserted = Asserted::default();
        application(b"psql", &mut asserted);
        assert!(asserted.is_empty());
        application(b"lg/thread-7/sub/plan", &mut asserted);
        assert_eq!(asserted.lend().thread, Attr::Value(b"thread-7"));
        assert_eq!(asserted.lend().node, Attr::Value(b"sub/plan"));
        assert_eq!(setting(b"weirgate.Run"), Some(Said::Run));
        assert_eq!(setting(b"weirgate.role"), None);
        assert_eq!(setting(b"run"), None);
    }
}
