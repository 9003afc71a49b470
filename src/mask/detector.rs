//! The kinds of value that are found in text, by name.

use std::fmt;

/// A kind of sensitive value that is found by its own form, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Detector {
    /// Anchored secrets: AWS key ids, GitHub tokens, `sk-` keys, JWTs, PEM private keys.
    Secrets,
    /// E-mail addresses: local part `[A-Za-z0-9._%+-]{1,64}`, a domain with an alphabetic end.
    Email,
    /// Payment card numbers: issuer prefix, length and Luhn check.
    Pan,
    /// IBANs: country, its length, and mod 97.
    Iban,
    /// US social security numbers with dashes.
    UsSsn,
    /// Phone numbers: `+` and 8 to 15 digits, and 3-3-4 of North America.
    Phone,
}

/// How many detectors there are.
pub(super) const COUNT: usize = 6;

/// Every detector, strongest first: of two that match the same text, the first one here counts.
#[must_use]
pub fn detectors() -> &'static [Detector] {
    use Detector::{Email, Iban, Pan, Phone, Secrets, UsSsn};
    const ALL: [Detector; COUNT] = [Secrets, Email, Pan, Iban, UsSsn, Phone];
    &ALL
}

impl Detector {
    /// The name that a config uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Email => "email",
            Self::Pan => "pan",
            Self::Iban => "iban",
            Self::UsSsn => "us_ssn",
            Self::Phone => "phone",
        }
    }

    /// What `redact` puts in the place of a value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Secrets => "[SECRET]",
            Self::Email => "[EMAIL]",
            Self::Pan => "[PAN]",
            Self::Iban => "[IBAN]",
            Self::UsSsn => "[US_SSN]",
            Self::Phone => "[PHONE]",
        }
    }

    /// Reads a config's name.
    ///
    /// # Errors
    /// A sentence that lists the names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        detectors().iter().copied().find(|detector| detector.name() == name).ok_or_else(|| {
            let names: Vec<_> = detectors().iter().map(|detector| detector.name()).collect();
            format!("there is no detector `{name}`; there are {}", names.join(", "))
        })
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many values were masked, by what found them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finds {
    by_detector: [u64; COUNT],
    fields: u64,
    columns: u64,
}

impl Finds {
    /// Values that `detector` found.
    #[must_use]
    pub fn of(&self, detector: Detector) -> u64 {
        self.by_detector.get(detector.index()).copied().unwrap_or(0)
    }

    /// Values that a field rule named.
    #[must_use]
    pub fn fields(&self) -> u64 {
        self.fields
    }

    /// Values of a column that a rule names.
    #[must_use]
    pub fn columns(&self) -> u64 {
        self.columns
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let by_place = self.fields.saturating_add(self.columns);
        self.by_detector.iter().fold(by_place, |sum, count| sum.saturating_add(*count))
    }

    /// The detectors that found something, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Detector, u64)> {
        detectors().iter().map(|detector| (*detector, self.of(*detector))).filter(|pair| pair.1 > 0)
    }

    pub(super) fn add(&mut self, found: What) {
        let slot = match found {
            What::Field => Some(&mut self.fields),
            What::Column => Some(&mut self.columns),
            What::Entity(detector) => self.by_detector.get_mut(detector.index()),
        };
        if let Some(slot) = slot {
            *slot = slot.saturating_add(1);
        }
    }
}

/// What made a value sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A detector found it.
    Entity(Detector),
    /// A field rule names it.
    Field,
    /// A rule names its column.
    Column,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_unknown_ones_are_explained() {
        for (place, detector) in detectors().iter().enumerate() {
            assert_eq!(Detector::parse(detector.name()), Ok(*detector));
            assert_eq!(detector.index(), place);
        }
        let message = Detector::parse("e-mail").unwrap_err();
        assert!(message.contains("`e-mail`") && message.contains("us_ssn"), "{message}");
    }
}
