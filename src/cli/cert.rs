//! `weirgate cert dev`: a development CA, a server certificate, and what each SDK needs to trust it.

use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// `weirgate cert ...`
#[derive(Debug, Args)]
pub struct Cert {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a development CA and a server certificate; never for production.
    ///
    /// A second call with the same directory keeps the CA and renews the certificate.
    #[command(after_help = "Example:\n  weirgate cert dev --dir certs --name gw.internal\n  \
        eval \"$(weirgate cert dev --dir certs | grep ^export)\"")]
    Dev(Dev),
}

/// The arguments of `cert dev`.
#[derive(Clone, Debug, Args)]
pub struct Dev {
    /// Where the files go.
    #[arg(long, default_value = "certs")]
    pub dir: PathBuf,
    /// A DNS name or IP address of the gateway, beside localhost; may be repeated.
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// Also a client certificate with this URI as its subject, e.g. spiffe://demo/ana.
    #[arg(long, value_name = "URI")]
    pub client: Option<String>,
    /// Days that the certificates are good for.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=825))]
    pub days: u16,
    /// Makes a new CA in place of the one that is there.
    #[arg(long)]
    pub force: bool,
    /// Prints the paths as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Paths of what was made, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The CA's certificate: what callers trust.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A client's certificate and key, where one was asked for.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Runs the command: 0 when made, 2 when it could not be.
#[must_use]
pub fn run(args: &Cert) -> ExitCode {
    let Command::Dev(dev) = &args.command;
    match make(dev).and_then(|made| print(dev, &made, &mut io::stdout().lock()).map_err(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("weirgate cert dev: {why}");
            ExitCode::from(2)
        }
    }
}

/// Makes the files of `dev`.
///
/// # Errors
/// A name that cannot be in a certificate, or a file that cannot be written; the text says which.
pub fn make(dev: &Dev) -> Result<Made, String> {
    fs::create_dir_all(&dev.dir).map_err(|why| format!("{}: {why}", dev.dir.display()))?;
    let dir = fs::canonicalize(&dev.dir).map_err(text)?;
    let made = Made {
        ca: dir.join("ca.pem"),
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        client: dev.client.as_ref().map(|_| (dir.join("client.pem"), dir.join("client-key.pem"))),
    };
    let issuer = authority(&dir, &made.ca, dev.force)?;

    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(dev.names.iter().filter(|name| !name.is_empty()).cloned());
    names.dedup();
    let mut server = CertificateParams::new(names).map_err(|why| format!("--name: {why}"))?;
    server.distinguished_name = name("Weirgate development server");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(server, &issuer, dev.days, &made.cert, &made.key)?;

    if let (Some(uri), Some((cert, key))) = (&dev.client, &made.client) {
        let uri = uri.as_str().try_into().map_err(|why| format!("--client: {why}"))?;
        let mut client = CertificateParams::default();
        client.subject_alt_names = vec![SanType::URI(uri)];
        client.distinguished_name = name("Weirgate development client");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        issue(client, &issuer, dev.days, cert, key)?;
    }
    Ok(made)
}

/// The CA of the directory: the one that is there, else a new one.
fn authority(dir: &Path, ca: &Path, force: bool) -> Result<Issuer<'static, KeyPair>, String> {
    let key_path = dir.join("ca-key.pem");
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Weirgate development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_days(&mut params, CA_DAYS);
    if !force && key_path.exists() && ca.exists() {
        let pem = fs::read_to_string(&key_path).map_err(|why| at(&key_path, &why))?;
        let key = KeyPair::from_pem(&pem)
            .map_err(|why| format!("{}: {why}; `--force` makes a new CA", key_path.display()))?;
        still_good(ca)?;
        return Ok(Issuer::new(params, key));
    }
    let key = KeyPair::generate().map_err(text)?;
    let certificate = params.self_signed(&key).map_err(text)?;
    write(&key_path, &key.serialize_pem(), PRIVATE)?;
    write(ca, &certificate.pem(), PUBLIC)?;
    Ok(Issuer::new(params, key))
}

/// A CA that ends soon would make certificates that no client takes.
fn still_good(ca: &Path) -> Result<(), String> {
    let pem = fs::read(ca).map_err(|why| at(ca, &why))?;
    let broken = || format!("{}: not a certificate; `--force` makes a new CA", ca.display());
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| broken())?;
    let certificate = pem.parse_x509().map_err(|_| broken())?;
    match certificate.validity().time_to_expiration() {
        Some(left) if left.whole_days() >= 1 => Ok(()),
        _ => Err(format!("{}: expired; `--force` makes a new CA", ca.display())),
    }
}

fn issue(
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
    days: u16,
    cert: &Path,
    key: &Path,
) -> Result<(), String> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_days(&mut params, days);
    let pair = KeyPair::generate().map_err(text)?;
    let certificate = params.signed_by(&pair, issuer).map_err(text)?;
    // The key first: a reader that sees the new certificate finds its key.
    write(key, &pair.serialize_pem(), PRIVATE)?;
    write(cert, &certificate.pem(), PUBLIC)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, so that clocks may differ a little.
fn set_days(params: &mut CertificateParams, days: u16) {
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(u64::from(days) * 86_400)).into();
}

/// Replaces `path` whole; a key is never readable by others, not even for a moment.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = (|| {
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content.as_bytes())?;
        // Whatever the umask took away or left.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|why| at(path, &why))
}

/// The line that each SDK needs, ready for a shell.
fn print(dev: &Dev, made: &Made, out: &mut impl io::Write) -> io::Result<()> {
    if dev.json {
        let client = made.client.as_ref().map(|(cert, key)| {
            serde_json::json!({"cert": cert.to_string_lossy(), "key": key.to_string_lossy()})
        });
        let paths = serde_json::json!({
            "ca": made.ca.to_string_lossy(),
            "cert": made.cert.to_string_lossy(),
            "key": made.key.to_string_lossy(),
            "client": client,
        });
        return writeln!(out, "{paths}");
    }
    let ca = shell(&made.ca);
    writeln!(out, "# Made for development. In the config of a listener:")?;
    writeln!(
        out,
        "#   tls = {{ cert = \"{}\", key = \"{}\" }}",
        made.cert.display(),
        made.key.display()
    )?;
    if let Some((cert, key)) = &made.client {
        writeln!(out, "# A client certificate: {} {}", shell(cert), shell(key))?;
    }
    writeln!(out, "# Python: OpenAI and Anthropic SDKs, LangChain, httpx, aiohttp")?;
    writeln!(out, "export SSL_CERT_FILE={ca}")?;
    writeln!(out, "# Python: requests")?;
    writeln!(out, "export REQUESTS_CA_BUNDLE={ca}")?;
    writeln!(out, "# Node: fetch, OpenAI and Anthropic SDKs")?;
    writeln!(out, "export NODE_EXTRA_CA_CERTS={ca}")?;
    writeln!(out, "# curl --cacert {ca} https://localhost:PORT/")?;
    writeln!(out, "# The two Python variables replace the system's roots in that shell.")
}

/// `path` as one word of a shell.
fn shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn at(path: &Path, why: &io::Error) -> String {
    format!("{}: {why}", path.display())
}

fn text(why: impl std::fmt::Display) -> String {
    why.to_string()
}

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// The longest that some clients take.
const CA_DAYS: u16 = 825;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
    use std::sync::Arc;

    fn dev(dir: &Path) -> Dev {
        Dev {
            dir: dir.to_owned(),
            names: vec!["gw.internal".to_owned()],
            client: Some("spiffe://demo/ana".to_owned()),
            days: 30,
            force: false,
            json: false,
        }
    }

    /// A handshake in memory: does a client that trusts `ca` take the server for `name`?
    fn accepts(made: &Made, name: &'static str) -> bool {
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&made.ca).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_file(&made.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
            }
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
            }
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking()
    }

    #[test]
    fn a_client_that_trusts_the_ca_takes_the_server_by_its_names_only() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(&dev(dir.path())).unwrap();
        for name in ["localhost", "127.0.0.1", "gw.internal"] {
            assert!(accepts(&made, name), "{name}");
        }
        assert!(!accepts(&made, "elsewhere.internal"));
    }

    #[test]
    fn keys_are_private_and_a_second_call_keeps_the_ca() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(&dev(dir.path())).unwrap();
        let (_, client_key) = made.client.clone().unwrap();
        for key in [&made.key, &client_key, &dir.path().join("ca-key.pem")] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{key:?}");
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let (ca, cert) = (read(&made.ca), read(&made.cert));
        let again = make(&dev(dir.path())).unwrap();
        assert_eq!(read(&again.ca), ca);
        assert_ne!(read(&again.cert), cert);
        assert!(accepts(&again, "localhost"), "the renewed one is of the same CA");
        make(&Dev { force: true, ..dev(dir.path()) }).unwrap();
        assert_ne!(read(&made.ca), ca);
        assert!(accepts(&made, "localhost"));
    }

    #[test]
    fn the_lines_are_ready_for_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let spaced = dir.path().join("it's here");
        let args = dev(&spaced);
        let made = make(&args).unwrap();
        let mut out = Vec::new();
        print(&args, &made, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            assert!(out.contains(&format!("export {variable}='")), "{out}");
        }
        assert!(out.contains(r"it'\''s here/ca.pem'") && out.contains("curl --cacert"));
        let mut out = Vec::new();
        print(&Dev { json: true, ..args }, &made, &mut out).unwrap();
        let paths: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(paths.get("ca").unwrap(), &*made.ca.to_string_lossy());
    }

    #[test]
    fn bad_names_and_places_say_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let bad = Dev { names: vec!["b\u{e4}d".to_owned()], ..dev(dir.path()) };
        assert!(make(&bad).unwrap_err().contains("--name"));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(make(&dev(&file)).unwrap_err().contains("file"));
        make(&dev(dir.path())).unwrap();
        fs::write(dir.path().join("ca.pem"), "nonsense").unwrap();
        assert!(make(&dev(dir.path())).unwrap_err().contains("--force"));
    }
}
