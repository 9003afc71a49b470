//! What a caller hears when something is refused, in the words of PostgreSQL.

use crate::base::{ApprovalId, ExchangeId, RuleId};
use crate::session::refusal::Refusal;
use crate::wire::postgres::write;
use std::rc::Rc;

/// A refused message: what it is answered with, once the upstream is where it must be for that.
#[derive(Clone, Debug)]
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    /// What a reader needs beside the kind; text of the program only.
    pub(super) detail: &'static str,
    pub(super) rule: Option<RuleId>,
    /// The SQLSTATE that the server itself would tell, where it is not the one of the kind.
    pub(super) code: Option<&'static str>,
    /// What helps, where that is known.
    pub(super) hint: Option<&'static str>,
    /// What is told instead of the detail, and a hint: names of columns that the caller was told,
    /// and numbers; nothing of a value.
    pub(super) told: Option<Rc<(String, &'static str)>>,
    /// The rules of the caller say so, and not what the statement stands in.
    pub(super) by_policy: bool,
    /// The request that it waited for.
    pub(super) approval: Option<ApprovalId>,
}

impl Denied {
    /// A refusal by its kind and what was wrong.
    pub(super) fn of(refusal: Refusal, detail: &'static str) -> Self {
        Self {
            refusal,
            detail,
            rule: None,
            code: None,
            hint: None,
            told: None,
            by_policy: false,
            approval: None,
        }
    }

    /// What policy permits and cannot be done as it was sent.
    pub(super) fn hinted(detail: &'static str, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..Self::of(DENIED, detail) }
    }
}

/// The kind of what policy does not permit.
pub(super) const DENIED: Refusal = Refusal::Denied;

/// Text that no version of the server can parse, and that holds nothing of the caller's: it fails
/// where the refused message would have run, with all that a failure does to a transaction.
pub const POISON: &[u8] = b"!weirgate refused this statement";

/// A statement name for what stands in the place of a message that names no statement.
pub(super) const POISON_NAME: &[u8] = b"weirgate refused";

/// The SQLSTATE of a refusal (PostgreSQL manual, appendix A).
fn sqlstate(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Denied
        | Refusal::ApprovalRequired
        | Refusal::ApprovalDenied
        | Refusal::ApprovalExpired
        | Refusal::ReasonRequired => "42501",
        Refusal::Unauthenticated => "28000",
        Refusal::NoResource => "3D000",
        Refusal::BodyTooLarge | Refusal::HeadTooLarge => "54000",
        Refusal::UnsupportedBody | Refusal::NotImplemented | Refusal::BadVersion => "0A000",
        Refusal::Unrecordable => "53100",
        Refusal::Overloaded => "57P03",
        Refusal::TooManyFailures => "53400",
        Refusal::Unreachable | Refusal::UpstreamTimeout | Refusal::BadUpstream => "08006",
        Refusal::RequestTimeout => "57014",
        _ => "08P01",
    }
}

/// The SQLSTATE that a refusal is told with.
pub(super) fn code(denied: &Denied) -> &'static str {
    denied.code.unwrap_or(sqlstate(denied.refusal))
}

/// Appends the error. `rule` and `request` are names of ours; nothing of a statement is in it.
pub(super) fn error(
    denied: &Denied,
    fatal: bool,
    rule: Option<&str>,
    request: ExchangeId,
    to: &mut Vec<u8>,
) {
    let hex = request.hex();
    let id = String::from_utf8_lossy(&hex);
    let title = if denied.code.is_some() { denied.detail } else { denied.refusal.title() };
    let mut message = title.to_owned();
    if let Some(rule) = rule {
        message.push_str(" (rule ");
        message.push_str(rule);
        message.push_str(", request ");
    } else {
        message.push_str(" (request ");
    }
    message.push_str(&id);
    message.push(')');
    let told = denied.told.as_deref();
    let detail = told.map_or(denied.detail, |(detail, _)| detail);
    let detail = Some(detail).filter(|text| !text.is_empty() && *text != title);
    let hint = (denied.refusal == Refusal::Denied)
        .then(|| format!("`weirgate policy explain --request {id}` tells why."))
        .or_else(|| told.map(|(_, hint)| (*hint).to_owned()));
    let severity = if fatal { "FATAL" } else { "ERROR" };
    let waited = denied.approval.map(|id| match denied.refusal {
        Refusal::ApprovalDenied | Refusal::ApprovalExpired => format!("Approval request {id}."),
        _ => format!("Approval request {id}: once it is approved, send the same statement again."),
    });
    let hint = waited.as_deref().or(denied.hint).or(hint.as_deref());
    write::error(severity, code(denied), &message, detail, hint, to);
}
