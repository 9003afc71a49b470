//! The binding of an authentication to the TLS connection that it runs in.

use super::ScramError;
use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512,
    OID_PKCS1_MD5WITHRSAENC, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// Data of the channel binding `tls-server-end-point` (RFC 5929, section 4): a hash of the server's
/// certificate in DER.
///
/// The hash is the one that the certificate is signed with, SHA-256 in place of MD5 and SHA-1.
///
/// # Errors
/// [`ScramError::Certificate`] for a certificate that does not parse, or whose signature has no
/// hash of its own (Ed25519, Ed448), several ones, or one that is not known here (SHA-224, ECDSA
/// with SHA-1). RFC 5929 leaves the binding undefined there; to go on without it would let an
/// attacker choose that by its certificate, so an upstream that offers SCRAM-SHA-256-PLUS behind
/// such a one is refused.
pub fn server_end_point(certificate_der: &[u8]) -> Result<Vec<u8>, ScramError> {
    let (rest, certificate) =
        X509Certificate::from_der(certificate_der).map_err(|_| ScramError::Certificate)?;
    let signed = &certificate.signature_algorithm;
    // RFC 5280, section 4.1.1.2: both name the same.
    if !rest.is_empty() || *signed != certificate.tbs_certificate.signature {
        return Err(ScramError::Certificate);
    }
    let hash = hash(signed).ok_or(ScramError::Certificate)?;
    Ok(digest::digest(hash, certificate_der).as_ref().to_vec())
}

/// What a signature of this algorithm hashes by, or its stand-in.
fn hash(signed: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    if signed.algorithm == OID_PKCS1_RSASSAPSS {
        return pss_hash(signed);
    }
    let known: [(Oid<'_>, &'static Algorithm); 8] = [
        (OID_PKCS1_MD5WITHRSAENC, &SHA256),
        (OID_PKCS1_SHA1WITHRSA, &SHA256),
        (OID_PKCS1_SHA256WITHRSA, &SHA256),
        (OID_PKCS1_SHA384WITHRSA, &SHA384),
        (OID_PKCS1_SHA512WITHRSA, &SHA512),
        (OID_SIG_ECDSA_WITH_SHA256, &SHA256),
        (OID_SIG_ECDSA_WITH_SHA384, &SHA384),
        (OID_SIG_ECDSA_WITH_SHA512, &SHA512),
    ];
    known.into_iter().find(|(oid, _)| *oid == signed.algorithm).map(|(_, hash)| hash)
}

/// RSASSA-PSS names its hash in its parameters, and another one for its mask, which must be the
/// same.
fn pss_hash(signed: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    let params = RsaSsaPssParams::try_from(signed.parameters.as_ref()?).ok()?;
    let oid = params.hash_algorithm_oid();
    if params.mask_gen_algorithm().ok()?.hash != *oid {
        return None;
    }
    let known: [(Oid<'_>, &'static Algorithm); 4] = [
        (OID_HASH_SHA1, &SHA256),
        (OID_NIST_HASH_SHA256, &SHA256),
        (OID_NIST_HASH_SHA384, &SHA384),
        (OID_NIST_HASH_SHA512, &SHA512),
    ];
    known.into_iter().find(|(own, _)| own == oid).map(|(_, hash)| hash)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    /// `CN=a`, RSA, signed by SHA-256 with RSA.
    const RSA: &str = "\
     MIIB9DCCAV2gAwIBAgIUYNdW7xb+fPLozmMX34Lslo8cyvswDQYJKoZIhvcNAQELBQAwDDEKMAgGA1UE\
     AwwBYTAeFw0yNjExMjcyMjMxMTJaFw0zNjExMjQyMjMxMTJaMAwxCjAIBgNVBAMMAWEwgZ8wDQYJKoZI\
     hvcNAQEBBQADgY0AMIGJAoGBAM5vygAQNFS8N0T/gKuaV0w5MTdv9+FjAaR03vhZ9Z+8zGCn7GWcY/Qo\
     OD6oj7gCnY9m7yLsDAQc8Z8bxF7ft0KeyGXOOQ8uG3n0gaBjUE4r4FCPAPx+EqeMTvmoyMXum8L9YkN0\
     lWRArkJ5q1MC0qJyiZK6NPXrERZtg7/TkmkpAgMBAAGjUzBRMB0GA1UdDgQWBBQomBvNEQ70rBGk8EzL\
     XNUb+/PCmjAfBgNVHSMEGDAWgBQomBvNEQ70rBGk8EzLXNUb+/PCmjAPBgNVHRMBAf8EBTADAQH/MA0G\
     CSqGSIb3DQEBCwUAA4GBAHAbEMVv2SVtLYKuAX8BRFjpRvAh8Aae1k7DTAeO0nPg/3ram1eYEuQTzn1E\
     pOrhYsn7C+ysJak5xYvKZU7O2ks9SV3JKZ8jC8+zhMkcUnc79uz9QwbCExWeB/viYzHmdHjXv16sM580\
     oH6egk9pU6U/cmnwUQ3KXqk+EpeIgPIq";
    /// The same key, signed by RSASSA-PSS: SHA-384, MGF1 with SHA-384, salt of 48 bytes.
    const PSS: &str = "\
     MIICXDCCAZGgAwIBAgIUIWyqQ+i+BhNNxwXiodAH58fzb0MwQQYJKoZIhvcNAQEKMDSgDzANBglghkgB\
     ZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgEwMAwxCjAIBgNVBAMMAWEwHhcN\
     MjYxMTI3MjIzMTEyWhcNMzYxMTI0MjIzMTEyWjAMMQowCAYDVQQDDAFhMIGfMA0GCSqGSIb3DQEBAQUA\
     A4GNADCBiQKBgQDOb8oAEDRUvDdE/4CrmldMOTE3b/fhYwGkdN74WfWfvMxgp+xlnGP0KDg+qI+4Ap2P\
     Zu8i7AwEHPGfG8Re37dCnshlzjkPLht59IGgY1BOK+BQjwD8fhKnjE75qMjF7pvC/WJDdJVkQK5CeatT\
     AtKicomSujT16xEWbYO/05JpKQIDAQABo1MwUTAdBgNVHQ4EFgQUKJgbzREO9KwRpPBMy1zVG/vzwpow\
     HwYDVR0jBBgwFoAUKJgbzREO9KwRpPBMy1zVG/vzwpowDwYDVR0TAQH/BAUwAwEB/zBBBgkqhkiG9w0B\
     AQowNKAPMA0GCWCGSAFlAwQCAgUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFlAwQCAgUAogMCATADgYEA\
     OnsdB2llIL0OybF991F4VJzCYWBU3ZMUGBN8CXQokNUBWRWjTXvS3heZkXRTvhWWpdD41iZ+A87MhSii\
     CEGkWGjqAtbsi7szktmOwuGGqPYCcjUawM4gQEWk6r3c22++XScTcv3L5kgo3di91lY3hXJ3HrwpjjUB\
     df27vOfmyH0=";
    const RSA_OID: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
    const ECDSA_OID: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const SHA384_OID: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";

    fn decode(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    fn own(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    /// Replaces the last byte of `oid` where it stands, at the places that `which` picks.
    fn bent(der: &[u8], oid: &[u8], last: u8, which: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut der = der.to_vec();
        let places: Vec<usize> = memchr::memmem::find_iter(&der, oid).collect();
        assert!(places.len() >= 2, "both names of the algorithm");
        for (_, place) in places.into_iter().enumerate().filter(|(n, _)| which(*n)) {
            *der.get_mut(place + oid.len() - 1).unwrap() = last;
        }
        der
    }

    fn hashed(hash: &'static Algorithm, der: &[u8]) -> Result<Vec<u8>, ScramError> {
        Ok(digest::digest(hash, der).as_ref().to_vec())
    }

    #[test]
    fn the_hash_is_the_one_of_the_signature() {
        let p256 = own(&rcgen::PKCS_ECDSA_P256_SHA256);
        let rsa = decode(RSA);
        for (der, oid, last, hash) in [
            (&p256, ECDSA_OID, 2, &SHA256),
            (&p256, ECDSA_OID, 3, &SHA384),
            (&p256, ECDSA_OID, 4, &SHA512),
            (&rsa, RSA_OID, 4, &SHA256),
            (&rsa, RSA_OID, 5, &SHA256),
            (&rsa, RSA_OID, 11, &SHA256),
            (&rsa, RSA_OID, 12, &SHA384),
            (&rsa, RSA_OID, 13, &SHA512),
        ] {
            let der = bent(der, oid, last, |_| true);
            assert_eq!(server_end_point(&der), hashed(hash, &der), "{last}");
        }
        let p384 = own(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(server_end_point(&p384), hashed(&SHA384, &p384));
        let pss = decode(PSS);
        assert_eq!(server_end_point(&pss), hashed(&SHA384, &pss));
    }

    #[test]
    fn what_has_no_hash_or_an_unknown_one_is_refused() {
        let refused = Err(ScramError::Certificate);
        assert_eq!(server_end_point(&own(&rcgen::PKCS_ED25519)), refused, "Ed25519");
        let p256 = own(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(server_end_point(&bent(&p256, ECDSA_OID, 1, |_| true)), refused, "SHA-224");
        assert_eq!(server_end_point(&bent(&p256, ECDSA_OID, 5, |_| true)), refused, "none");
        assert_eq!(
            server_end_point(&bent(&decode(RSA), RSA_OID, 14, |_| true)),
            refused,
            "SHA-224"
        );
    }

    #[test]
    fn names_that_contradict_each_other_are_refused() {
        let refused = Err(ScramError::Certificate);
        let p256 = own(&rcgen::PKCS_ECDSA_P256_SHA256);
        for place in 0..2 {
            let der = bent(&p256, ECDSA_OID, 3, |n| n == place);
            assert_eq!(server_end_point(&der), refused, "inner and outer algorithm");
            // Of each pair in the parameters of RSASSA-PSS one is the hash and one is of the mask.
            let der = bent(&decode(PSS), SHA384_OID, 1, |n| n % 2 == place);
            assert_eq!(server_end_point(&der), refused, "hash and mask");
        }
        let pss = bent(&decode(PSS), SHA384_OID, 3, |_| true);
        assert_eq!(server_end_point(&pss), hashed(&SHA512, &pss), "both of them another one");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let der = own(&rcgen::PKCS_ECDSA_P256_SHA256);
        for len in 0..der.len() {
            let cut = der.get(..len).unwrap();
            assert_eq!(server_end_point(cut), Err(ScramError::Certificate), "cut at {len}");
        }
        let more = [&der[..], b"x"].concat();
        assert_eq!(server_end_point(&more), Err(ScramError::Certificate));
    }
}
