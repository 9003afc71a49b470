//! Who acts, as the rules see it.

use crate::base::IssuerId;
use crate::identity::Principal;

/// The attributes of a caller that rules may name.
///
/// Made from a verified `Principal` on the data path; from asserted values for `explain` and
/// for cases, which decide nothing.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Whose token.
    pub issuer: Option<IssuerId>,
    /// Subject.
    pub sub: Option<&'a str>,
    /// Groups; no claim is an empty set.
    pub groups: &'a [Box<str>],
    /// The OAuth client.
    pub client_id: Option<&'a str>,
    /// The actor chain, current actor first.
    pub actors: &'a [&'a str],
}

impl Who<'_> {
    /// Lends what `principal` is to `with`: the one place where a principal becomes attributes.
    pub(super) fn lend<R>(principal: &Principal, with: impl FnOnce(&Who<'_>) -> R) -> R {
        let actors: Vec<&str> = principal.actors().collect();
        with(&Who {
            issuer: Some(principal.issuer()),
            sub: Some(principal.sub()),
            groups: principal.groups(),
            client_id: principal.client_id(),
            actors: &actors,
        })
    }
}
