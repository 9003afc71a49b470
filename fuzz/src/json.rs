//! JSON: the tokens are the input without a gap however it is cut, the verdict is serde_json's,
//! and text that is escaped is valid and means the same.

use super::cuts;
use weirgate::scan::json::{JsonError, Token, Tokenizer, escape_into, is_valid, unescape};

/// See the module.
pub fn run(data: &[u8]) {
    for many in [false, true] {
        let whole = tokens(data, &[data.len()], many);
        for ends in cuts::ways(data) {
            assert_eq!(tokens(data, &ends, many), whole, "cut at {ends:?}");
        }
    }
    if std::str::from_utf8(data).is_ok() {
        let verdict = tokens(data, &[data.len()], false);
        if verdict != Err(JsonError::TooDeep) {
            let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
            assert_eq!(is_valid(data), theirs, "serde_json has another verdict");
        }
        let mut quoted = vec![b'"'];
        escape_into(data, &mut quoted);
        quoted.push(b'"');
        assert!(is_valid(&quoted));
        let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        let mut back = Vec::new();
        unescape(inner, &mut back);
        assert_eq!(back, data);
        let theirs: String = serde_json::from_slice(&quoted).expect("a valid string");
        assert_eq!(theirs.as_bytes(), data);
    }
}

/// What was seen: a letter for each structural token, and the text that all strings mean.
type Seen = (Vec<u8>, Vec<u8>);

fn tokens(text: &[u8], ends: &[usize], many: bool) -> Result<Seen, JsonError> {
    let mut tokenizer = Tokenizer::new(many);
    let (mut shape, mut strings) = (Vec::new(), Vec::new());
    let mut depth = 0i32;
    for part in cuts::parts(text, ends) {
        tokenizer.fresh_input();
        let mut at = 0;
        loop {
            let before = at;
            let token = tokenizer.next(part, &mut at)?;
            assert!(at >= before && at <= part.len());
            let Some(token) = token else { break };
            match token {
                Token::Gap(range) => assert_eq!(range, before..at),
                Token::Open { at: place, array } => {
                    assert_eq!(place + 1, at);
                    depth += 1;
                    shape.push(if array { b'[' } else { b'{' });
                }
                Token::Close(place) => {
                    assert_eq!(place + 1, at);
                    depth -= 1;
                    assert!(depth >= 0);
                    shape.push(b'}');
                }
                Token::Quote { at: place, key } => {
                    assert_eq!(place + 1, at);
                    shape.push(if key { b'k' } else { b's' });
                }
                Token::Text { range, closes } => {
                    assert_eq!((range.start, range.end + usize::from(closes)), (before, at));
                    strings.extend_from_slice(part.get(range).unwrap_or_default());
                    if closes {
                        strings.push(b'\n');
                    }
                }
                Token::Escape(escape) => {
                    assert!(!escape.raw().is_empty() && !escape.decoded().is_empty());
                    strings.extend_from_slice(escape.decoded());
                }
                Token::Scalar { range, first, last } => {
                    assert_eq!(range, before..at);
                    if first {
                        shape.push(b'0');
                    }
                    strings.extend_from_slice(part.get(range).unwrap_or_default());
                    let _ = last;
                }
            }
        }
        assert!(at + tokenizer.held() >= part.len(), "only a cut escape is held");
    }
    tokenizer.finish()?;
    assert_eq!(depth, 0);
    Ok((shape, strings))
}
