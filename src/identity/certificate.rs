//! A principal from a client certificate whose chain the TLS handshake has verified.

use super::principal::{Principal, Verified};
use super::profile::spiffe_domain;
use super::verify::sha256;
use super::{TokenError, claims};
use crate::base::{IssuerId, Now};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// What is accepted from one certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRules {
    /// Id of the issuer that the authority is configured as.
    pub issuer: IssuerId,
    /// What stands for `iss`: a name for the authority that no token issuer has.
    pub iss: String,
    /// The only SPIFFE trust domain that the authority may speak for; `None` for any.
    pub trust_domain: Option<String>,
}

/// Names the holder of `der`, a leaf certificate in DER.
///
/// The name is the only URI of the subject alternative names, else the only DNS name in them. The
/// distinguished name is never read: it is a text that every tool writes in its own way. The chain
/// and the proof of possession are the handshake's business.
///
/// # Errors
/// [`TokenError::Certificate`] when it does not parse, is an authority's or is outside its time;
/// [`TokenError::CertificateName`] when there is no name, or more than one could be meant.
pub fn from_certificate(
    rules: &CertificateRules,
    der: &[u8],
    now: Now,
) -> Result<Principal, TokenError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| TokenError::Certificate)?;
    if !rest.is_empty() {
        return Err(TokenError::Certificate);
    }
    let authority = certificate.basic_constraints().map_err(|_| TokenError::Certificate)?;
    if authority.is_some_and(|constraints| constraints.value.ca) {
        return Err(TokenError::Certificate);
    }
    let seconds = |at: i64| u64::try_from(at).map_err(|_| TokenError::Certificate);
    let starts_s = seconds(certificate.validity().not_before.timestamp())?;
    let expires_s = seconds(certificate.validity().not_after.timestamp())?;
    if !(starts_s..=expires_s).contains(&now.wall_s()) {
        return Err(TokenError::Certificate);
    }
    let name = name(&certificate)?;
    if let Some(own) = &rules.trust_domain
        && spiffe_domain(name) != Some(own.as_str())
    {
        return Err(TokenError::CertificateName);
    }
    let digest = sha256(der);
    Ok(Principal {
        issuer: rules.issuer,
        iss: rules.iss.as_str().into(),
        sub: name.into(),
        groups: Box::default(),
        client_id: None,
        actors: Box::default(),
        expires_s,
        valid_until_s: expires_s.saturating_add(1),
        token_digest: digest,
        certificate: Some(digest),
        carried_key: false,
        verified: Verified,
    })
}

fn name<'c>(certificate: &'c X509Certificate<'_>) -> Result<&'c str, TokenError> {
    let names = certificate.subject_alternative_name().map_err(|_| TokenError::Certificate)?;
    let names = names.ok_or(TokenError::CertificateName)?;
    let (mut uri, mut dns) = (None, None);
    for name in &names.value.general_names {
        let (kind, text) = match name {
            GeneralName::URI(text) => (&mut uri, *text),
            GeneralName::DNSName(text) => (&mut dns, *text),
            GeneralName::Invalid(..) => return Err(TokenError::Certificate),
            _ => continue,
        };
        // A NUL or a blank makes two readers see two names.
        let plain = claims::is_clean(text) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || kind.replace(text).is_some() {
            return Err(TokenError::CertificateName);
        }
    }
    match (uri, dns) {
        (Some(uri), _) if uri.starts_with("spiffe:") => {
            spiffe_domain(uri).map(|_| uri).ok_or(TokenError::CertificateName)
        }
        (Some(uri), _) if uri.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty()) => {
            Ok(uri)
        }
        (Some(_), _) => Err(TokenError::CertificateName),
        (None, Some(dns)) if !dns.contains('*') => Ok(dns),
        _ => Err(TokenError::CertificateName),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType, string};

    const URI: &str = "spiffe://prod.acme/ns/agents/sa/runner";

    fn rules() -> CertificateRules {
        CertificateRules { issuer: IssuerId(3), iss: "mtls:prod".to_owned(), trust_domain: None }
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(string::Ia5String::try_from(text).unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(string::Ia5String::try_from(text).unwrap())
    }

    fn der(names: Vec<SanType>, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.subject_alt_names = names;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn named(names: Vec<SanType>) -> Result<String, TokenError> {
        let now = Now { mono_ns: 0, wall_ns: 1_800_000_000_000_000_000 };
        from_certificate(&rules(), &der(names, |_| {}), now).map(|found| found.sub().to_owned())
    }

    #[test]
    fn the_only_uri_names_the_holder_else_the_only_dns_name() {
        assert_eq!(named(vec![uri(URI)]).unwrap(), URI);
        assert_eq!(
            named(vec![dns("a.example"), uri(URI), dns("a.example")]).err().unwrap().label(),
            "certificate_name"
        );
        assert_eq!(named(vec![dns("a.example"), uri(URI)]).unwrap(), URI);
        assert_eq!(named(vec![dns("a.example")]).unwrap(), "a.example");
        assert_eq!(named(vec![uri("urn:agent:7")]).unwrap(), "urn:agent:7");
    }

    #[test]
    fn names_that_could_be_read_in_two_ways_are_refused() {
        for names in [
            vec![],
            vec![uri(URI), uri("spiffe://prod.acme/other")],
            vec![uri(URI), uri(URI)],
            vec![dns("a.example"), dns("b.example")],
            vec![dns("*.example")],
            vec![dns("a.example\0.evil")],
            vec![uri("spiffe://prod.acme/a\0b")],
            vec![uri("spiffe://prod.acme/a b")],
            vec![uri("spiffe://Prod.acme/a")],
            vec![uri("spiffe://prod.acme/a/../b")],
            vec![uri("no-scheme")],
            vec![uri("no-scheme"), dns("a.example")],
            vec![SanType::Rfc822Name(string::Ia5String::try_from("a@example").unwrap())],
        ] {
            assert_eq!(named(names.clone()), Err(TokenError::CertificateName), "{names:?}");
        }
    }

    #[test]
    fn authorities_other_domains_and_other_times_are_refused() {
        let now = Now { mono_ns: 0, wall_ns: 1_800_000_000_000_000_000 };
        let good = der(vec![uri(URI)], |_| {});
        let own =
            |domain: &str| CertificateRules { trust_domain: Some(domain.to_owned()), ..rules() };
        let principal = from_certificate(&own("prod.acme"), &good, now).unwrap();
        assert_eq!((principal.issuer(), principal.iss()), (IssuerId(3), "mtls:prod"));
        assert_eq!(principal.certificate(), Some(principal.token_digest()));
        assert!(from_certificate(&own("test.acme"), &good, now).is_err());
        assert!(from_certificate(&own("prod"), &good, now).is_err());
        let authority =
            der(vec![uri(URI)], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(from_certificate(&rules(), &authority, now).is_err());
        let dated = der(vec![uri(URI)], |params| {
            params.not_before = rcgen::date_time_ymd(2027, 1, 1);
            params.not_after = rcgen::date_time_ymd(2027, 2, 1);
        });
        let at = |wall_s: u64| Now { mono_ns: 0, wall_ns: wall_s * 1_000_000_000 };
        let principal = from_certificate(&rules(), &dated, at(1_800_000_000)).unwrap();
        let end = principal.expires_s();
        assert!(from_certificate(&rules(), &dated, at(end)).is_ok());
        assert_eq!(principal.valid_until_s(), end + 1);
        for second in [end + 1, 1_700_000_000] {
            let result = from_certificate(&rules(), &dated, at(second));
            assert_eq!(result, Err(TokenError::Certificate));
        }
    }

    #[test]
    fn a_broken_certificate_is_refused_at_every_length() {
        let now = Now { mono_ns: 0, wall_ns: 1_800_000_000_000_000_000 };
        let good = der(vec![uri(URI)], |_| {});
        for len in 0..good.len() {
            let result = from_certificate(&rules(), good.get(..len).unwrap(), now);
            assert_eq!(result, Err(TokenError::Certificate));
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(from_certificate(&rules(), &longer, now), Err(TokenError::Certificate));
    }
}
