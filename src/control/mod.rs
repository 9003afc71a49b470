//! The control plane: one tokio thread with the admin surface, key sets, names and metrics.
//!
//! Nothing here is on the path of a request. What the workers need is published as an immutable
//! snapshot, which they read by its generation; a control thread that stands still leaves them
//! deciding by the last one.

pub mod admin;
pub mod approvals;
pub mod database;
pub mod dns;
pub mod drain;
pub(crate) mod fetch;
pub mod keys;
pub mod metrics;
pub mod notify;
pub mod stand_in;
pub mod tls;

/// Whether two byte strings are equal, in a time that depends on their lengths only.
#[must_use]
pub fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let differing = one.iter().zip(other).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_equality() {
        assert!(same_bytes(b"", b"") && same_bytes(b"abc", b"abc"));
        assert!(!same_bytes(b"abc", b"abd") && !same_bytes(b"abc", b"ab"));
    }
}
