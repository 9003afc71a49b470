//! E-mail addresses, found from their `@`.
//!
//! The local part is the longest run of at most [`LOCAL_MAX`] local bytes before the `@`; what
//! stands before such a run does not matter, so a longer run shows its start. The domain is the
//! longest valid one; a dot or a hyphen that ends a sentence is not part of it.

use super::{Found, Peek, Tail, View};
use crate::scan::class;

/// Bytes of a local part (RFC 5321, section 4.5.3.1.1).
pub(in crate::mask) const LOCAL_MAX: usize = 64;
/// Bytes of a domain (RFC 1035, section 2.3.4, without the root's dot and length bytes).
const DOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The end of the domain that begins at `start`, right behind an `@`.
///
/// A run longer than any domain counts as one and is swallowed: it is never held for its end.
pub(in crate::mask) fn domain_end(view: &View<'_>, start: usize) -> Found {
    let mut end = start;
    loop {
        match view.peek(end) {
            Peek::Byte(byte) if class::is(byte, class::DOMAIN) => {
                let dot = byte == b'.';
                let empty = end == start || view.before(end, 1) == b'.';
                if dot && empty {
                    // No label is empty: the domain is what stands before, if anything.
                    break;
                }
                if end - start == DOMAIN_MAX {
                    return Found::Swallow(end, Tail::Class(class::DOMAIN));
                }
                end += 1;
            }
            Peek::More => return Found::More,
            _ => break,
        }
    }
    let run = view.text.get(start..end).unwrap_or_default();
    match valid_len(run) {
        Some(len) => Found::Value(start + len),
        None => Found::No,
    }
}

/// The longest prefix of `run` that is a domain with an alphabetic (or `xn--`) last label.
fn valid_len(run: &[u8]) -> Option<usize> {
    let mut best = None;
    let mut start = 0;
    for (index, label) in run.split(|&byte| byte == b'.').enumerate() {
        if index > 0 {
            let letters = label.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let over = matches!(label.get(letters), None | Some(b'-'));
            if label.len() > 4 && label.get(..4).is_some_and(|p| p.eq_ignore_ascii_case(b"xn--")) {
                best = Some(start + label.len());
            } else if (2..=LABEL_MAX).contains(&letters) && over {
                best = Some(start + letters);
            }
        }
        let hyphen = label.first() == Some(&b'-') || label.last() == Some(&b'-');
        if label.is_empty() || label.len() > LABEL_MAX || hyphen {
            break;
        }
        start += label.len() + 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_valid_domain_is_taken() {
        for (run, len) in [
            ("example.com", Some(11)),
            ("example.com.", Some(11)),
            ("a.b.co-x", Some(6)),
            ("a.co-b.net", Some(10)),
            ("a.c0m", None),
            ("localhost", None),
            ("1.2.3.4", None),
            ("-a.com", None),
            ("x.xn--p1ai", Some(10)),
            ("", None),
        ] {
            assert_eq!(valid_len(run.as_bytes()), len, "{run}");
        }
    }
}
