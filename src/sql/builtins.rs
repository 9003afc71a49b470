//! Which functions are plain: built-ins that do nothing but give a result.
//!
//! `builtins.txt` is what `pg_catalog` of a real server holds; what is struck out of it here has
//! an effect beyond its result, or reads more than its arguments and the catalog. The judgement,
//! where it is one:
//!
//! - `nextval` stays plain: inserts of every ORM call it. `setval` is special.
//! - Advisory locks stay plain: they guard nothing but what callers agree on, and the clean-up of
//!   connection pools releases them on every return.
//! - `pg_sleep` stays plain: how long a statement may run is the server's `statement_timeout`.
//! - Other `pg_stat_get_*`, `has_*_privilege`, `current_setting` and what else the catalog's views and
//!   psql's `\d` are made of stay plain; the server has rights of its own for them.
//! - `pg_get_viewdef` and its kin print SQL but run none: plain. `query_to_xml` and its kin,
//!   `ts_stat` and `ts_rewrite` take SQL text and run it: special.

use ahash::{AHashMap, AHashSet};
use std::sync::LazyLock;

/// Whether a function is a built-in without effect beyond its result.
///
/// `schema` is the one that the text names. A name without one counts as `pg_catalog`'s, as the
/// server looks there first; a function of the same name with closer argument types that stands
/// in another schema of the `search_path` would win, which a text alone cannot tell.
#[must_use]
pub fn is_plain(schema: Option<&str>, name: &str) -> bool {
    match schema {
        None | Some("pg_catalog") => PLAIN.contains(name),
        Some("information_schema") => INFORMATION_SCHEMA.contains(&name),
        Some(_) => false,
    }
}

/// What the views of the information schema are made of; drivers call some of it by name
/// (pgjdbc's `getPrimaryKeys`).
const INFORMATION_SCHEMA: [&str; 11] = [
    "_pg_char_max_length",
    "_pg_char_octet_length",
    "_pg_datetime_precision",
    "_pg_expandarray",
    "_pg_index_position",
    "_pg_interval_type",
    "_pg_numeric_precision",
    "_pg_numeric_precision_radix",
    "_pg_numeric_scale",
    "_pg_truetypid",
    "_pg_truetypmod",
];

/// Whether `name` is a built-in that is not plain.
pub(super) fn is_special_builtin(name: &str) -> bool {
    is_special(name) && !PLAIN.contains(name)
}

/// The columns of the rows that a function of the server's gives; none for a scalar, and for what
/// is not known.
pub(super) fn outputs_of(
    schema: Option<&str>,
    name: &str,
) -> impl Iterator<Item = &'static str> + use<> {
    let found = match (schema, name) {
        (None | Some("pg_catalog"), name) => OUTPUTS.get(name).copied().unwrap_or_default(),
        (Some("information_schema"), "_pg_expandarray") => "x n",
        _ => "",
    };
    found.split_ascii_whitespace()
}

static OUTPUTS: LazyLock<AHashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("outputs.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).collect()
});

static PLAIN: LazyLock<AHashSet<&'static str>> =
    LazyLock::new(|| builtins().filter(|name| !is_special(name)).collect());

fn builtins() -> impl Iterator<Item = &'static str> {
    include_str!("builtins.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn is_special(name: &str) -> bool {
    SPECIAL.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Names struck out.
const SPECIAL: &[&str] = &[
    // Files of the server, and what its configuration files say.
    "pg_stat_file",
    "pg_current_logfile",
    "pg_show_all_file_settings",
    "pg_hba_file_rules",
    "pg_ident_file_mappings",
    "pg_config",
    "pg_wal_summary_contents",
    // Settings.
    "set_config",
    "pg_reload_conf",
    // Other sessions and the server itself.
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_notify",
    "pg_export_snapshot",
    "pg_promote",
    "pg_rotate_logfile",
    "pg_rotate_logfile_old",
    // Large objects.
    "loread",
    "lowrite",
    // Texts of other sessions, which are of the same role.
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    // Run SQL text.
    "ts_stat",
    "ts_rewrite",
    // Write to tables, indexes or sequences.
    "setval",
    "gin_clean_pending_list",
    "pg_import_system_collations",
    "pg_extension_config_dump",
    "pg_nextoid",
    "pg_stop_making_pinned_objects",
    // Reach rows by their place, past any name of a table.
    "currtid2",
];

/// Beginnings of names struck out.
const FAMILIES: &[&str] = &[
    "pg_read_",
    "pg_ls_",
    "pg_control_",
    "pg_log_",
    "lo_",
    "query_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "cursor_to_xml",
    "pg_replication_",
    "pg_logical_",
    "pg_create_",
    "pg_copy_",
    "pg_drop_",
    "pg_sync_",
    "pg_switch_",
    "pg_backup_",
    "pg_wal_replay_",
    "pg_stat_reset",
    "pg_clear_",
    "pg_restore_",
    "brin_summarize_",
    "brin_desummarize_",
    "binary_upgrade_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_whole() {
        let names: Vec<_> = builtins().collect();
        assert!(names.len() > 2_500, "{} names", names.len());
        assert!(names.is_sorted());
        for name in SPECIAL {
            assert!(names.contains(name), "{name} is no built-in");
        }
        for family in FAMILIES {
            assert!(names.iter().any(|name| name.starts_with(family)), "{family} has no member");
        }
    }

    #[test]
    fn a_plain_function_gives_a_result_and_no_more() {
        for name in [
            "lower",
            "count",
            "now",
            "coalesce_not",
            "jsonb_agg",
            "nextval",
            "pg_get_viewdef",
            "has_table_privilege",
            "pg_advisory_unlock_all",
            "log",
        ] {
            assert_eq!(is_plain(None, name), name != "coalesce_not", "{name}");
        }
        for name in [
            "pg_read_file",
            "lo_import",
            "query_to_xml_and_xmlschema",
            "set_config",
            "pg_logical_slot_get_changes",
            "dblink",
            "LOWER",
        ] {
            assert!(!is_plain(None, name), "{name}");
        }
        assert!(is_plain(Some("pg_catalog"), "lower"));
        assert!(!is_plain(Some("public"), "lower"));
        assert!(is_plain(Some("information_schema"), "_pg_expandarray"));
        assert!(!is_plain(Some("information_schema"), "lower"));
        assert!(!is_plain(None, "_pg_expandarray"));
    }
}
