//! Callers of bytes, known by their certificates.

use crate::kit::home::POLICY;
use crate::kit::{Home, PATIENCE, Upstream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weirgate::cli::cert::{Dev, Made, make};
use weirgate::control::drain::walk_folder;
use weirgate::record::fields::{Reader, Tag};
use weirgate::record::{Flags, Kind};

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Certificates of one authority in `dir`; a second call renews all but the authority.
pub(crate) fn issue(dir: &Path, client: Option<&str>) -> Made {
    make(&Dev {
        dir: dir.to_owned(),
        names: Vec::new(),
        client: client.map(str::to_owned),
        days: 2,
        force: false,
        json: false,
    })
    .unwrap()
}

/// A connection that trusts the authority and shows a certificate where there is one.
pub(crate) fn connect(
    address: SocketAddr,
    ca: &Path,
    client: Option<&(PathBuf, PathBuf)>,
) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(StreamOwned::new(connection, stream))
}

const RULES: &str = r#"
[[rule]]
id = "ledger-of-ana"
effect = "allow"
who = { iss = ["workloads"], sub = ["spiffe://demo/ana"] }
what = { resource = ["ledger"] }
"#;

#[test]
fn a_tcp_caller_is_who_its_certificate_says_and_is_recorded_or_refused() {
    relay("");
}

#[test]
fn a_careful_tcp_caller_is_served_the_same_behind_its_record() {
    relay("then = { durable = \"each\" }\n");
}

fn relay(then: &str) {
    let (home, connections) = (Home::new(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&connections);
    let upstream = Upstream::raw(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut piece = [0; 1024];
        loop {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                len => stream.write_all(&[b"heard ", &piece[..len]].concat())?,
            }
        }
    });
    let certs = home.path("certs");
    // Each call makes a client of the same authority; the second takes the first one's place.
    let bob = issue(&certs, Some("spiffe://demo/bob")).client.unwrap();
    let bob = [bob.0, bob.1].map(|path| {
        let kept = path.with_extension("bob.pem");
        std::fs::rename(&path, &kept).unwrap();
        kept
    });
    let bob = (bob[0].clone(), bob[1].clone());
    let made = issue(&certs, Some("spiffe://demo/ana"));
    let stranger = issue(&home.path("elsewhere"), Some("spiffe://demo/ana")).client.unwrap();
    let more = format!(
        "[[issuer]]\nname = \"workloads\"\nkind = \"x509\"\nca = \"certs/ca.pem\"\n\
         [[listener]]\nname = \"ledger\"\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         resource = \"ledger\"\ntls = {{ cert = \"certs/cert.pem\", key = \"certs/key.pem\", \
         client_ca = \"certs/ca.pem\" }}\n\
         [[resource]]\nname = \"ledger\"\nprotocol = \"tcp\"\nupstream = \"tcp://{}\"\n",
        upstream.address
    );
    home.configure(upstream.address, &more);
    home.write("policy.toml", &format!("{POLICY}{RULES}{then}"));
    let gateway = home.start();
    let address = gateway.address("ledger").unwrap();

    let mut ana = connect(address, &made.ca, made.client.as_ref()).unwrap();
    for text in ["one", "two"] {
        ana.write_all(text.as_bytes()).unwrap();
        let mut heard = vec![0; 6 + text.len()];
        ana.read_exact(&mut heard).unwrap();
        assert_eq!(heard, format!("heard {text}").as_bytes());
    }
    ana.conn.send_close_notify();
    ana.flush().unwrap();
    assert_eq!(ana.read(&mut [0; 16]).unwrap(), 0, "the end goes through and comes back");
    assert_eq!(connections.load(Ordering::SeqCst), 1);

    let nobody =
        [("no rule", Some(&bob)), ("no certificate", None), ("another authority", Some(&stranger))];
    for (why, client) in nobody {
        let mut tls = connect(address, &made.ca, client).unwrap();
        let asked = tls.write_all(b"let me in").and_then(|()| tls.read(&mut [0; 16]));
        assert!(!matches!(asked, Ok(1..)), "{why}: {asked:?}");
    }
    assert!(gateway.stop());
    assert_eq!(connections.load(Ordering::SeqCst), 1, "nobody else came through");
    home.verify(&home.data());

    let (mut opened, mut to_upstream, mut to_caller) = (Vec::new(), Vec::new(), Vec::new());
    let bad = walk_folder(&home.data(), |_, entry| match entry.meta.kind {
        Kind::Open => {
            let field = |tag| {
                let mut fields = Reader::new(entry.body).map_while(Result::ok);
                fields.find(|f| f.tag() == Some(tag)).map(|f| f.as_text().into_owned())
            };
            opened.push(
                [Tag::Sub, Tag::Decision, Tag::Rule].map(field).map(Option::unwrap_or_default),
            );
        }
        Kind::Data if entry.meta.flags.has(Flags::DURABLE) == then.is_empty() => {
            panic!("not as the rule says: {entry:?}")
        }
        Kind::Data if entry.meta.flags.has(Flags::TO_CALLER) => to_caller.extend(entry.body),
        Kind::Data => to_upstream.extend(entry.body),
        _ => {}
    });
    assert!(bad.unwrap().is_empty());
    assert_eq!(String::from_utf8(to_upstream).unwrap(), "onetwo");
    assert_eq!(String::from_utf8(to_caller).unwrap(), "heard oneheard two");
    opened.sort();
    let expected =
        [["spiffe://demo/ana", "permit", "ledger-of-ana"], ["spiffe://demo/bob", "deny", ""]];
    assert_eq!(opened, expected);
}

/// A listener that a reload gives another authority would take its callers for those of the first.
#[test]
fn a_reload_does_not_make_one_authoritys_callers_those_of_another() {
    let home = Home::new();
    let upstream = Upstream::raw(|mut stream| {
        let mut piece = [0; 1024];
        loop {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                len => stream.write_all(&piece[..len])?,
            }
        }
    });
    let made = issue(&home.path("certs"), Some("spiffe://demo/ana"));
    let stranger = issue(&home.path("elsewhere"), Some("spiffe://demo/ana")).client.unwrap();
    let more = |ca: &str| {
        format!(
            "[[issuer]]\nname = \"workloads\"\nkind = \"x509\"\nca = \"certs/ca.pem\"\n\
             [[issuer]]\nname = \"strangers\"\nkind = \"x509\"\nca = \"elsewhere/ca.pem\"\n\
             [[listener]]\nname = \"ledger\"\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
             resource = \"ledger\"\ntls = {{ cert = \"certs/cert.pem\", key = \"certs/key.pem\", \
             client_ca = \"{ca}\" }}\n\
             [[resource]]\nname = \"ledger\"\nprotocol = \"tcp\"\nupstream = \"tcp://{}\"\n",
            upstream.address
        )
    };
    home.configure(upstream.address, &more("certs/ca.pem"));
    home.write("policy.toml", &format!("{POLICY}{RULES}"));
    let gateway = home.start();
    let address = gateway.address("ledger").unwrap();
    home.configure(upstream.address, &more("elsewhere/ca.pem"));
    home.write("policy.toml", &format!("{POLICY}{RULES}"));
    let reloaded = gateway.reload(home.load());
    let mut tls = connect(address, &made.ca, Some(&stranger)).unwrap();
    let asked = tls.write_all(b"let me in").and_then(|()| tls.read(&mut [0; 16]));
    assert!(!matches!(asked, Ok(1..)), "a stranger is taken for ana: {asked:?}");
    assert!(reloaded.is_err(), "it takes a restart");
    assert!(gateway.stop());
}
