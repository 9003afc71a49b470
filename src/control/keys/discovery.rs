//! From an issuer's name to what it says of itself (OpenID Connect Discovery 1.0, RFC 8414): the
//! address of its keys, and for sign-in the rest.

use crate::control::fetch::{FetchError, Fetcher, fetchable};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The members that count here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Finds the key address of `issuer`.
///
/// # Errors
/// Neither document is there, it is malformed, or it names another issuer.
pub(super) async fn key_url(fetcher: &Fetcher, issuer: &str) -> Result<Url, String> {
    read(&document(fetcher, issuer).await?, issuer)
}

/// The document of `issuer`, as it is.
///
/// # Errors
/// Neither of the two is there.
async fn document(fetcher: &Fetcher, issuer: &str) -> Result<Vec<u8>, String> {
    let [openid, oauth] = documents(issuer)?;
    let fetched = match fetcher.fetch(openid, DOCUMENT_MAX).await {
        Err(FetchError::Status(404)) => fetcher.fetch(oauth, DOCUMENT_MAX).await,
        other => other,
    };
    fetched.map(|fetched| fetched.body).map_err(|why| format!("discovery: {why}"))
}

/// What `issuer` says of itself. Its member `issuer` is this very issuer.
///
/// # Errors
/// As [`key_url`]; and what `T` cannot be read from.
pub(in crate::control) async fn metadata<T: DeserializeOwned>(
    fetcher: &Fetcher,
    issuer: &str,
) -> Result<T, String> {
    let body = document(fetcher, issuer).await?;
    read(&body, issuer)?;
    serde_json::from_slice(&body).map_err(|why| format!("discovery document: {why}"))
}

/// The two places where the document may be: OpenID's below the issuer's path, RFC 8414's before it.
fn documents(issuer: &str) -> Result<[Url; 2], String> {
    let base = fetchable(issuer).map_err(|why| why.to_string())?;
    if base.query().is_some() || base.fragment().is_some() {
        return Err("an issuer with a query or a fragment".to_owned());
    }
    let path = base.path().trim_end_matches('/').to_owned();
    let place = |path: String| {
        let mut url = base.clone();
        url.set_path(&path);
        url
    };
    Ok([
        place(format!("{path}/.well-known/openid-configuration")),
        place(format!("/.well-known/oauth-authorization-server{path}")),
    ])
}

fn read(body: &[u8], issuer: &str) -> Result<Url, String> {
    let document: Document =
        serde_json::from_slice(body).map_err(|why| format!("discovery document: {why}"))?;
    // Byte for byte: a document for another issuer is a mix-up.
    if document.issuer != issuer {
        return Err(format!("the discovery document is for `{}`", cut(&document.issuer)));
    }
    fetchable(&document.jwks_uri).map_err(|why| format!("jwks_uri: {why}"))
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

const DOCUMENT_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn documents_are_looked_for_where_the_standards_say() {
        let urls = |issuer: &str| documents(issuer).unwrap().map(|url| url.to_string());
        assert_eq!(
            urls("https://idp.example.com/tenant/v2"),
            [
                "https://idp.example.com/tenant/v2/.well-known/openid-configuration",
                "https://idp.example.com/.well-known/oauth-authorization-server/tenant/v2"
            ]
        );
        assert_eq!(
            urls("https://tenant.example.com/"),
            [
                "https://tenant.example.com/.well-known/openid-configuration",
                "https://tenant.example.com/.well-known/oauth-authorization-server"
            ]
        );
        assert!(documents("https://idp.example.com/?x").is_err());
        assert!(documents("http://idp.example.com").is_err());
    }

    #[test]
    fn a_document_counts_only_for_its_own_issuer() {
        let good = br#"{"issuer":"https://a.example","jwks_uri":"https://keys.example/k","x":[]}"#;
        assert_eq!(read(good, "https://a.example").unwrap().as_str(), "https://keys.example/k");
        assert!(read(good, "https://a.example/").is_err(), "a slash more is another issuer");
        let plain = br#"{"issuer":"https://a.example","jwks_uri":"http://keys.example/k"}"#;
        assert!(read(plain, "https://a.example").is_err());
        assert!(read(b"{}", "https://a.example").is_err());
        assert!(read(b"[", "https://a.example").is_err());
    }
}
