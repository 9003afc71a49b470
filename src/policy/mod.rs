//! Rules, compiled to a table of bits, and what the table decides.
//!
//! A rule says who, does what, with which obligations. The order of rules does not matter:
//! a matching deny wins over a rule that asks for an approval, that over any allow, and where nothing
//! matches the answer is deny. The obligations of *every* matching rule unite, the strictest wins.
//!
//! A rule that asks does two things: it holds back all that could be meant by it, as a deny does,
//! and once approved it permits what it names, as an allow does.
//!
//! Each rule is one bit; strict rules (deny, ask) have the low words, allow rules the high ones. Each dimension
//! (`method`, `path`, ...) maps a value to a row of bits: the rules that this value satisfies or
//! that do not name the dimension. The rows of who-dimensions are ANDed once per token ([`Row`]);
//! a decision ANDs the four what-rows, word by word, and allocates nothing. What a statement of a
//! database does has no rows: see `sql`.
//!
//! Where a rule wants a person to approve, [`approval`] has the request, the grant that it may
//! become, and who may decide.
//!
//! What this module does not know: tokens (it sees a verified `Principal`), masks and
//! credentials (it names them by id), protocols, files, clocks.
//!
//! Absent and unreadable attributes: an absent one is matched by no rule that names it, an
//! unreadable one by every strict rule that names it and by no allow rule that does.

pub mod approval;
mod asserted;
mod case;
mod decision;
mod explain;
mod fragment;
mod hold;
mod index;
mod layout;
mod parameters;
mod pattern;
mod rule;
mod sql;
mod table;
mod who;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use asserted::Asserted;
pub use case::{Case, CaseAction, CaseFailure, CaseParameters, CaseSql, CaseWho, Expect};
pub use decision::{Decision, Denial, DenialKind, Grant, Need, Obligations};
pub use explain::{Dimension, Explanation, Nearest};
pub use hold::{Hold, Holds};
pub use parameters::{Parameter, Parameters};
pub use pattern::Pattern;
pub use rule::{
    APPROVER_GROUPS_MAX, Durable, Effect, PATTERN_LEN_MAX, RULES_MAX, RecordLevel, RuleError,
    RuleFault, RuleSpec, Then, What, WhoRule,
};
pub use sql::{Columns, Functions, Parent, STATEMENTS, Sql, SqlFunction};
pub use table::{Action, Attr, Row, Table};
pub use who::Who;
