//! The tables and views of `pg_catalog`, by name.

use std::collections::HashSet;
use std::sync::LazyLock;

static SYSTEM: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("relations.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// Whether a name without a schema means a table or view of `pg_catalog`, which the server looks
/// into before any schema of the search path.
///
/// The list is that of PostgreSQL 15. What a later server has besides is looked up as any other
/// name, and so needs a rule of its own; what an earlier one lacks would mean a user's table of
/// that name there, which must be named with its schema.
#[must_use]
pub fn is_system_table(name: &str) -> bool {
    SYSTEM.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_catalog_are_known_and_others_are_not() {
        for name in ["pg_class", "pg_attribute", "pg_stats", "pg_authid"] {
            assert!(is_system_table(name), "{name}");
        }
        assert!(!is_system_table("orders") && !is_system_table("PG_CLASS"));
        assert!(SYSTEM.len() > 100);
    }
}
