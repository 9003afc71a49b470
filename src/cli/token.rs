//! `weirgate token inspect`: says which check of a token fails, and shows nothing of the token.

use crate::base::Now;
use crate::identity::{Check, KeySnapshot, Verifier};
use std::fmt::Write;

/// What `token inspect` prints, and whether the token is accepted (exit status 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Lines for the terminal.
    pub text: String,
    /// Whether the gateway would accept the token.
    pub accepted: bool,
}

/// Inspects what stands in a file or was piped in: a token, blanks around it and `Bearer` before
/// it are left out, since people copy those along. The gateway itself takes nothing away.
#[must_use]
pub fn inspect(verifier: &Verifier, input: &[u8], keys: &KeySnapshot, now: Now) -> Inspection {
    let token = input.trim_ascii();
    let token = match token.split_at_checked("Bearer ".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Bearer ") => rest.trim_ascii(),
        _ => token,
    };
    let checks = verifier.inspect(token, keys, now);
    let accepted = checks.iter().any(|check| check.name == "verdict" && check.ok);
    Inspection { text: table(&checks), accepted }
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.detail);
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::dev::{DevClaims, DevKey};

    #[test]
    fn the_table_tells_the_failing_check_and_shows_no_token() {
        let key = DevKey::generate().unwrap();
        let keys = key.snapshot(1);
        let verifier = Verifier::new(vec![DevKey::rules("dev", "https://dev", "gate")]);
        let token = key.mint(&DevClaims {
            issuer: "https://dev".to_owned(),
            subject: "alice".to_owned(),
            audience: vec!["gate".to_owned()],
            client_id: "demo".to_owned(),
            issued_s: 1_000,
            lifetime_s: 60,
            ..DevClaims::default()
        });
        let at = |wall_s: u64| Now { mono_ns: 0, wall_ns: wall_s * 1_000_000_000 };
        for input in [token.clone(), format!("bearer {token}\n"), format!("  {token}\r\n")] {
            let good = inspect(&verifier, input.as_bytes(), &keys, at(1_010));
            assert!(good.accepted && !good.text.contains("FAIL"), "{}", good.text);
        }
        let late = inspect(&verifier, token.as_bytes(), &keys, at(2_000));
        assert!(!late.accepted);
        assert!(late.text.contains("FAIL  times          expired"), "{}", late.text);
        assert!(!late.text.contains("alice") && !late.text.contains(token.get(..16).unwrap()));
        assert!(!inspect(&verifier, b"", &keys, at(1_010)).accepted);
    }
}
