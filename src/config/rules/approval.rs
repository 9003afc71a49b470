//! `then.approval`: who approves of what a rule asks about, and what the approval is good for.

use crate::config::reader::{Section, choose};
use crate::config::report::Report;
use crate::config::units::duration_ms;
use crate::policy::approval::{COUNT_MAX, Scope, Terms, USES_MAX};

/// `wait` and `ttl` where the rule names none.
const DEFAULT_NS: u64 = 15 * 60 * 1_000_000_000;

/// The terms as written; `None` where they cannot be read, which was reported.
pub(super) fn approval(mut table: Section<'_>, report: &mut Report) -> Option<Terms> {
    if !table.has("approvers") {
        table.missing("approvers", report);
    }
    let approvers = table.texts("approvers", report);
    let reveal = if table.has("reveal") { table.texts("reveal", report) } else { Some(Vec::new()) };
    let scopes = Scope::ALL.map(|scope| (scope.label(), scope));
    let count = number(&mut table, "count", u64::from(COUNT_MAX), report);
    let uses = number(&mut table, "uses", u64::from(USES_MAX), report);
    let scope = match table.text("scope", report) {
        Some(text) => choose("scope", text, &scopes, report),
        None => Some(Scope::Exact),
    };
    let wait_ns = duration(&mut table, "wait", report);
    let ttl_ns = duration(&mut table, "ttl", report);
    let [distinct_groups, reason, break_glass, estimate] =
        ["distinct_groups", "reason", "break_glass", "estimate"]
            .map(|key| table.flag(key, report).unwrap_or(false));
    table.finish(report);
    Some(Terms {
        approvers: approvers?.iter().map(|text| text.text.into()).collect(),
        count: count?,
        distinct_groups,
        wait_ns: wait_ns?,
        ttl_ns: ttl_ns?,
        uses: uses?,
        scope: scope?,
        reason,
        break_glass,
        estimate,
        reveal: reveal?.iter().map(|text| text.text.into()).collect(),
    })
}

/// A number from 1 up; 1 where there is none.
fn number(
    table: &mut Section<'_>,
    key: &'static str,
    max: u64,
    report: &mut Report,
) -> Option<u32> {
    if !table.has(key) {
        return Some(1);
    }
    table.number(key, 1..=max, report).and_then(|number| u32::try_from(number).ok())
}

/// Its bounds are those of the terms, which the table of rules looks at.
fn duration(table: &mut Section<'_>, key: &'static str, report: &mut Report) -> Option<u64> {
    if !table.has(key) {
        return Some(DEFAULT_NS);
    }
    let text = table.text(key, report)?;
    let ns = duration_ms(text.text).and_then(|ms| ms.checked_mul(1_000_000));
    if ns.is_none() {
        let said = text.text.escape_default();
        report.error(text.spot, format!("`{said}` is no duration"), "write it as in `15m` or `1h`");
    }
    ns
}
