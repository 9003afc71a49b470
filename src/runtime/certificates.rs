//! TLS settings from PEM: what a listener shows and asks for, whom an upstream must be.
//!
//! One provider (ring), TLS 1.3 and 1.2, one name for ALPN, no early data.

use super::opening::Opening;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;

/// Why certificates or keys could not be used. Every variant is the configuration's fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// No certificate in the PEM text.
    NoCertificate,
    /// No private key in the PEM text.
    NoKey,
    /// No usable root certificate.
    NoRoots,
    /// The PEM text is malformed.
    Pem(rustls_pki_types::pem::Error),
    /// Certificate and key do not fit together or are not supported.
    Tls(rustls::Error),
    /// The certificate authorities of the callers are not usable.
    Verifier(rustls::server::VerifierBuilderError),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate in the file"),
            Self::NoKey => f.write_str("no private key in the file"),
            Self::NoRoots => f.write_str("no usable root certificate"),
            Self::Pem(error) => write!(f, "malformed PEM: {error}"),
            Self::Tls(error) => write!(f, "unusable certificate or key: {error}"),
            Self::Verifier(error) => write!(f, "unusable certificate authority: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<rustls::Error> for CertificateError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// What a listener shows, and with `client_ca` asks of callers: a certificate is then required.
/// A caller that names another protocol than that of `opening` is refused (RFC 7301).
///
/// # Errors
/// See [`CertificateError`].
pub fn listener_tls(
    certificate_pem: &[u8],
    key_pem: &[u8],
    client_ca_pem: Option<&[u8]>,
    opening: Opening,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain = certificates(certificate_pem)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => CertificateError::NoKey,
        error => CertificateError::Pem(error),
    })?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let roots = Arc::new(roots(pem)?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if opening == Opening::Postgres {
                // Who shows none shows a token.
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(CertificateError::Verifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![opening.alpn().to_vec()];
    config.max_early_data_size = 0;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Whom upstreams must be: signed by `ca_pem`, or by a root of the system when there is none.
///
/// # Errors
/// See [`CertificateError`].
pub fn upstream_tls(
    ca_pem: Option<&[u8]>,
    opening: Opening,
) -> Result<Arc<ClientConfig>, CertificateError> {
    let roots = match ca_pem {
        Some(pem) => roots(pem)?,
        None => system_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![opening.alpn().to_vec()];
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(CertificateError::Pem)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate)?;
    }
    if store.is_empty() { Err(CertificateError::NoRoots) } else { Ok(store) }
}

/// Roots that the system cannot read or we cannot use are left out, as other programs do.
fn system_roots() -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() { Err(CertificateError::NoRoots) } else { Ok(store) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const DIRECT: Opening = Opening::Direct;

    #[test]
    fn broken_pem_is_an_error_and_not_an_empty_store() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (pem, key) = (pem.as_bytes(), key.as_bytes());
        assert!(listener_tls(pem, key, None, DIRECT).is_ok());
        assert!(listener_tls(pem, key, Some(pem), DIRECT).is_ok());
        assert!(matches!(
            listener_tls(b"", key, None, DIRECT),
            Err(CertificateError::NoCertificate)
        ));
        assert!(matches!(listener_tls(pem, b"", None, DIRECT), Err(CertificateError::NoKey)));
        assert!(matches!(
            listener_tls(pem, key, Some(b""), DIRECT),
            Err(CertificateError::NoRoots)
        ));
        assert!(matches!(upstream_tls(Some(b"nothing"), DIRECT), Err(CertificateError::NoRoots)));
        let other = rcgen::generate_simple_self_signed(vec!["b".to_owned()]).unwrap();
        let other = other.signing_key.serialize_pem();
        assert!(listener_tls(pem, other.as_bytes(), None, DIRECT).is_err());
        let config = listener_tls(pem, key, None, DIRECT).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert_eq!(config.max_early_data_size, 0);
        let config = listener_tls(pem, key, None, Opening::Postgres).unwrap();
        assert_eq!(config.alpn_protocols, [b"postgresql".to_vec()]);
        let config = upstream_tls(Some(pem), Opening::Postgres).unwrap();
        assert_eq!(config.alpn_protocols, [b"postgresql".to_vec()]);
    }
}
