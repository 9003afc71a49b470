//! What is accepted from an issuer, as the config says it.

use super::algorithm::Algorithm;
use super::profile::Profile;
use std::borrow::Cow;

/// Clock skew that is granted when the config names none.
pub const SKEW_S_DEFAULT: u64 = 30;
/// Most clock skew; more in [`IssuerRules::skew_s`] counts as this.
pub const SKEW_S_MAX: u64 = 120;
/// What is accepted from one issuer. Its place in the list is its
/// [`IssuerId`](crate::base::IssuerId).
#[derive(Clone, Debug)]
pub struct IssuerRules {
    /// Name in the config, for operators.
    pub name: String,
    /// `iss`, byte for byte. Two rules with one issuer: the first counts.
    pub issuer: String,
    /// Names of this gateway; one of them must be in `aud`. Empty: nothing is accepted.
    pub audience: Vec<String>,
    /// Algorithms that may be used. Empty: nothing is accepted.
    pub algorithms: Vec<Algorithm>,
    /// Kind of token.
    pub profile: Profile,
    /// Claim with the groups: a name, or a path with dots; empty for none.
    pub groups_claim: String,
    /// Clients (`azp`, `client_id`) that may hold the token; empty for any.
    pub clients: Vec<String>,
    /// Clock skew in seconds, at most [`SKEW_S_MAX`].
    pub skew_s: u64,
    /// Most seconds since `iat`, which is then required.
    pub age_max_s: Option<u64>,
}

impl IssuerRules {
    pub(super) fn skew(&self) -> u64 {
        self.skew_s.min(SKEW_S_MAX)
    }

    /// Whether one of `found` names this gateway. An MCP resource is the same with and without one
    /// slash at its end.
    pub(super) fn accepts_audience(&self, found: &[Cow<'_, str>]) -> bool {
        let same = |own: &str, named: &str| {
            own == named
                || self.profile == Profile::Mcp
                    && own.strip_suffix('/').unwrap_or(own)
                        == named.strip_suffix('/').unwrap_or(named)
        };
        self.audience
            .iter()
            .filter(|own| !own.is_empty())
            .any(|own| found.iter().any(|named| same(own, named)))
    }
}

/// Why rules are not what somebody meant. The verifier fails closed on each of them; the config
/// should not let them get that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleFault {
    /// No issuer, so no token is accepted.
    NoIssuer,
    /// An earlier rule has the same issuer, so this one never counts.
    SameIssuer,
    /// No audience or an empty one, so no token is accepted by it.
    NoAudience,
    /// No algorithm, so no token is accepted.
    NoAlgorithm,
    /// More skew than [`SKEW_S_MAX`], which is what counts.
    SkewTooLarge,
    /// An age bound of zero, so only a token of this very moment is accepted.
    NoAge,
}

/// Every fault of a list of rules, with the place of the rule in it.
#[must_use]
pub fn faults(rules: &[IssuerRules]) -> Vec<(usize, RuleFault)> {
    let mut found = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let same = rules.iter().take(place).any(|before| before.issuer == rule.issuer);
        let blank = rule.audience.is_empty() || rule.audience.iter().any(String::is_empty);
        let checks = [
            (rule.issuer.is_empty(), RuleFault::NoIssuer),
            (same, RuleFault::SameIssuer),
            (blank, RuleFault::NoAudience),
            (rule.algorithms.is_empty(), RuleFault::NoAlgorithm),
            (rule.skew_s > SKEW_S_MAX, RuleFault::SkewTooLarge),
            (rule.age_max_s == Some(0), RuleFault::NoAge),
        ];
        found.extend(checks.into_iter().filter(|(is, _)| *is).map(|(_, fault)| (place, fault)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::dev::DevKey;

    #[test]
    fn faults_of_rules_are_told_with_their_place() {
        let sound = DevKey::rules("a", "https://a", "gate");
        assert_eq!(faults(std::slice::from_ref(&sound)), []);
        let broken = IssuerRules {
            audience: vec![String::new()],
            algorithms: Vec::new(),
            skew_s: SKEW_S_MAX + 1,
            age_max_s: Some(0),
            ..sound.clone()
        };
        let nameless = IssuerRules { issuer: String::new(), ..sound.clone() };
        assert_eq!(
            faults(&[sound, broken, nameless]),
            [
                (1, RuleFault::SameIssuer),
                (1, RuleFault::NoAudience),
                (1, RuleFault::NoAlgorithm),
                (1, RuleFault::SkewTooLarge),
                (1, RuleFault::NoAge),
                (2, RuleFault::NoIssuer),
            ]
        );
    }
}
