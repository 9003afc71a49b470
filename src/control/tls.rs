//! The rustls set-up of the control plane's own clients.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// A client set-up with the system's roots and `extra` ones. It names its crypto provider (ring),
/// so that no default of the process is needed.
///
/// # Errors
/// An extra root that is no certificate, or no root at all; the text says which.
pub fn client_config(extra: &[CertificateDer<'_>]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A store with some unreadable files is common; what is readable counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in extra {
        roots
            .add(root.clone().into_owned())
            .map_err(|why| format!("a root certificate cannot be used: {why}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_no_root() {
        assert!(client_config(&[]).is_ok());
        assert!(client_config(&[CertificateDer::from(&b"nonsense"[..])]).is_err());
    }
}
