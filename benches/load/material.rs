//! What all subjects share: certificates, the token and its key set, requests and answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Outcome;

/// Events of one stream, the closing `[DONE]` not counted.
pub(crate) const EVENTS: usize = 200;
/// Length of the request's and of the answer's body.
pub(crate) const BODY_LEN: usize = 1_024;
/// Length of the body of a request that is held.
pub(crate) const BODY_HELD: usize = 4_096;
/// What a mask must find in every answer and stream.
pub(crate) const PERSONAL: &str = "jane.doe@example.com";
/// The secret that every proxy puts in place of the caller's token.
pub(crate) const UPSTREAM_KEY: &str = "sk-bench-0123456789abcdef0123456789abcdef";
/// The issuer's and the audience's name in the token.
pub(crate) const ISSUER: &str = "https://issuer.bench.test";

/// Files in one temporary directory (removed when dropped) and bytes in memory.
pub(crate) struct Material {
    directory: tempfile::TempDir,
    pub(crate) token: String,
    /// The token of a person who approves.
    pub(crate) approver: String,
    pub(crate) answer: Arc<[u8]>,
    /// The whole stream, one HTTP chunk per event.
    pub(crate) events: Arc<[Vec<u8>]>,
    pub(crate) caller_tls: Arc<rustls::ClientConfig>,
    pub(crate) caller_tls_known: Arc<rustls::ClientConfig>,
    pub(crate) upstream_tls: Arc<rustls::ServerConfig>,
}

impl Material {
    /// Makes keys, certificates and bodies. `client` also installs a client certificate.
    ///
    /// # Errors
    /// A file that cannot be written, or a key that cannot be made.
    pub(crate) fn make(client: bool) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("weirgate-bench-").tempdir()?;
        let at = |name: &str| directory.path().join(name);

        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(rcgen::DnType::CommonName, "weirgate bench CA");
        let ca_cert = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        fs::write(at("ca.pem"), ca_cert.pem())?;

        let server_key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut server = CertificateParams::new(names)?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_cert = server.signed_by(&server_key, &issuer)?;
        write_pair(directory.path(), "server", &server_cert.pem(), &server_key.serialize_pem())?;

        let client_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI("spiffe://bench.test/caller".try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_cert = params.signed_by(&client_key, &issuer)?;

        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(at("ca.pem"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut unknown = builder.clone().with_no_client_auth();
        unknown.resumption = rustls::client::Resumption::disabled();
        let mut known = if client {
            let key = PrivateKeyDer::from_pem_slice(client_key.serialize_pem().as_bytes())?;
            builder.with_client_auth_cert(vec![client_cert.der().clone()], key)?
        } else {
            builder.with_no_client_auth()
        };
        known.resumption = rustls::client::Resumption::disabled();
        let upstream_tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![server_cert.der().clone()],
                PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes())?,
            )?;

        let ([token, approver], jwks) = tokens()?;
        fs::write(at("jwks.json"), jwks)?;
        write_private(&at("upstream.key"), UPSTREAM_KEY)?;
        Ok(Self {
            directory,
            token,
            approver,
            answer: answer().into(),
            events: events().into(),
            caller_tls: Arc::new(unknown),
            caller_tls_known: Arc::new(known),
            upstream_tls: Arc::new(upstream_tls),
        })
    }

    /// Where the files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One of the files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A request that waits for a person, unlike any other number's. `beats`: of a client that takes
    /// signs of life.
    pub(crate) fn held(&self, number: usize, beats: bool) -> Vec<u8> {
        let head = format!("{{\"number\":\"{number}\",\"model\":\"gpt-4o-mini\",\"text\":\"");
        let body = pad(&head, "\"}", BODY_HELD);
        let agent = if beats { "curl/8.14.1" } else { "bench" };
        format!(
            "POST /bench/v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nUser-Agent: {agent}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .into_bytes()
    }

    /// The request bytes of a caller that shows `bearer`.
    pub(crate) fn request(bearer: &str, kind: Kind) -> Vec<u8> {
        let flag = match kind {
            Kind::Answer => "\"stream\":false",
            Kind::Stream => "\"stream\":true",
            Kind::Hold => "\"stream\":true,\"hold\":true",
        };
        let head = format!(
            "{{\"model\":\"gpt-4o-mini\",{flag},\"messages\":[{{\"role\":\"user\",\"content\":\""
        );
        let body = pad(&head, "\"}]}", BODY_LEN);
        let mut request = format!(
            "POST /bench/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\
             Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: bench\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body.as_bytes());
        request
    }
}

/// What the stand-in upstream is asked for (by the body, as a provider is).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Answer,
    Stream,
    Hold,
}

/// Fills the middle with words until the whole is `len` bytes.
fn pad(head: &str, tail: &str, len: usize) -> String {
    const WORDS: &[&str] =
        &["the", "quick", "model", "answers", "plain", "questions", "about", "ports"];
    let mut text = head.to_owned();
    for word in WORDS.iter().cycle() {
        if text.len() + word.len() + 1 + tail.len() > len {
            break;
        }
        text.push_str(word);
        text.push(' ');
    }
    while text.len() + tail.len() < len {
        text.push('.');
    }
    text.push_str(tail);
    text
}

/// A 1 KiB chat completion with one address in its text.
fn answer() -> Vec<u8> {
    let head = format!(
        "{{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\
         \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"Write to {PERSONAL} about it: "
    );
    let tail = "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200,\
                \"completion_tokens\":180,\"total_tokens\":380}}";
    pad(&head, tail, BODY_LEN).into_bytes()
}

/// The events of a stream as HTTP chunks; the address is split over three deltas.
fn events() -> Vec<Vec<u8>> {
    let mut events = Vec::with_capacity(EVENTS + 1);
    for index in 0..EVENTS {
        let delta = match index {
            0 => "{\"role\":\"assistant\",\"content\":\"\"}".to_owned(),
            100 => "{\"content\":\" jane.\"}".to_owned(),
            101 => "{\"content\":\"doe@exam\"}".to_owned(),
            102 => "{\"content\":\"ple.com \"}".to_owned(),
            _ if index + 1 == EVENTS => "{}".to_owned(),
            _ => format!("{{\"content\":\" word{}\"}}", index % 10),
        };
        let finish = if index + 1 == EVENTS { "\"stop\"" } else { "null" };
        events.push(chunk(&format!(
            "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{delta},\
             \"finish_reason\":{finish}}}]}}\n\n"
        )));
    }
    events.push(chunk("data: [DONE]\n\n"));
    events
}

fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// Ed25519 access tokens (RFC 9068) that live for a day, of the caller and of who approves, and the
/// key set that verifies them.
fn tokens() -> Outcome<([String; 2], String)> {
    let random = SystemRandom::new();
    let document =
        Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| "no Ed25519 key could be made")?;
    let key = Ed25519KeyPair::from_pkcs8(document.as_ref())
        .map_err(|_| "the Ed25519 key that was made is not accepted")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let header = serde_json::json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "bench"});
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = |subject: &str, client: &str, groups: &[&str]| {
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": subject, "aud": "weirgate", "client_id": client,
            "iat": now - 5, "exp": now + 86_400, "jti": "bench-1", "groups": groups,
        });
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let tokens = [
        token("agent-7", "bench", &["agents", "analysts"]),
        token("lea", "bench-page", &["leads"]),
    ];
    let jwks = serde_json::json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "kid": "bench", "use": "sig", "alg": "EdDSA",
        "x": URL_SAFE_NO_PAD.encode(key.public_key().as_ref()),
    }]});
    Ok((tokens, jwks.to_string()))
}

/// Writes `name.crt`, `name.key` and both in one file as HAProxy wants it.
fn write_pair(directory: &Path, name: &str, cert: &str, key: &str) -> Outcome<()> {
    fs::write(directory.join(format!("{name}.crt")), cert)?;
    write_private(&directory.join(format!("{name}.key")), key)?;
    write_private(&directory.join(format!("{name}.pem")), &format!("{cert}{key}"))
}

/// Writes a secret.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_private(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
