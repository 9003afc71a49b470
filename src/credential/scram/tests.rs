//! The client against the vector of RFC 7677 and against a small server.

use super::*;
use crate::base::Secret;
use crate::credential::server_end_point;
use ring::pbkdf2;

fn login(password: &[u8]) -> Login {
    Login::new("app".into(), Secret::new(password.to_vec()), None)
}

/// RFC 7677, section 3.
mod vector {
    pub(super) const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    pub(super) const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub(super) const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub(super) const CLIENT_FINAL: &str = "c=biws,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub(super) const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
}

fn vector() -> Scram {
    Scram::with_user("user", None, false, &STANDARD.decode(vector::NONCE).unwrap())
}

#[test]
fn the_vector_of_rfc_7677() {
    let mut scram = vector();
    let mut to = Vec::new();
    scram.first(&mut to);
    assert_eq!(to, vector::CLIENT_FIRST.as_bytes());
    to.clear();
    scram.prove(&login(b"pencil"), vector::SERVER_FIRST.as_bytes(), &mut to).unwrap();
    assert_eq!(to, vector::CLIENT_FINAL.as_bytes());
    scram.finish(vector::SERVER_FINAL.as_bytes()).unwrap();
}

/// A server as RFC 5802 has it, with nothing of the client's code.
struct Server {
    password: &'static [u8],
    /// What its certificate is bound by, where it speaks TLS.
    binding: Option<Vec<u8>>,
    rounds: u32,
}

impl Server {
    /// Runs a client against it: the last message of the server, or why the client gave up.
    fn run(&self, scram: &mut Scram, login: &Login) -> Result<String, ScramError> {
        let mut first = Vec::new();
        scram.first(&mut first);
        let first = String::from_utf8(first).unwrap();
        let (header, bare) = first.split_at(first.find(",,").unwrap() + 2);
        let nonce = bare.strip_prefix("n=,r=").unwrap();
        let nonce = format!("{nonce}of-the-server");
        let salt = b"0123456789abcdef";
        let said = format!("r={nonce},s={},i={}", STANDARD.encode(salt), self.rounds);

        let mut answer = Vec::new();
        scram.prove(login, said.as_bytes(), &mut answer)?;
        let answer = String::from_utf8(answer).unwrap();
        let (without, proof) = answer.rsplit_once(",p=").unwrap();
        let bound = match (&self.binding, header, scram.mechanism()) {
            (Some(binding), "p=tls-server-end-point,,", SCRAM_SHA_256_PLUS) => {
                [header.as_bytes(), binding].concat()
            }
            // It would have offered the binding to a client that can do it.
            (Some(_), "y,,", _) => return Ok("e=server-does-support-channel-binding".into()),
            (None, "n,," | "y,,", SCRAM_SHA_256) | (Some(_), "n,,", SCRAM_SHA_256) => {
                header.as_bytes().to_vec()
            }
            other => panic!("{other:?}"),
        };
        if without != format!("c={},r={nonce}", STANDARD.encode(bound)) {
            return Ok("e=channel-bindings-dont-match".into());
        }
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(self.rounds).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, self.password, &mut salted);
        let sign = |key: &[u8], text: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
        };
        let stored = digest::digest(&digest::SHA256, &sign(&salted, b"Client Key"));
        let exchange = format!("{bare},{said},{without}");
        let signature = sign(stored.as_ref(), exchange.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if digest::digest(&digest::SHA256, &key).as_ref() != stored.as_ref() {
            return Ok("e=invalid-proof".into());
        }
        let verifier = sign(&sign(&salted, b"Server Key"), exchange.as_bytes());
        Ok(format!("v={}", STANDARD.encode(verifier)))
    }
}

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

fn run(server: &Server, mut scram: Scram, password: &[u8]) -> Result<(), ScramError> {
    let last = server.run(&mut scram, &login(password))?;
    scram.finish(last.as_bytes())
}

fn certificate() -> Vec<u8> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
    server_end_point(params.self_signed(&key).unwrap().der()).unwrap()
}

#[test]
fn both_sides_know_each_other_with_and_without_binding() {
    let own = certificate();
    for (binding, scram, mechanism) in [
        (Some(own.clone()), Scram::new(Some(own.clone()), true, &NONCE), SCRAM_SHA_256_PLUS),
        (None, Scram::new(Some(own), false, &NONCE), SCRAM_SHA_256),
        (None, Scram::new(None, false, &NONCE), SCRAM_SHA_256),
    ] {
        assert_eq!(scram.mechanism(), mechanism);
        let server = Server { password: b"hunter2-hunter2", binding, rounds: 4_096 };
        assert_eq!(run(&server, scram, b"hunter2-hunter2"), Ok(()));
    }
}

#[test]
fn a_man_in_the_middle_with_a_certificate_of_his_own_is_found() {
    let server = Server { password: b"pencil", binding: Some(certificate()), rounds: 4_096 };
    let scram = Scram::new(Some(certificate()), true, &NONCE);
    assert_eq!(run(&server, scram, b"pencil"), Err(ScramError::Server));
}

#[test]
fn an_offer_that_was_taken_away_is_found() {
    let own = certificate();
    let server = Server { password: b"pencil", binding: Some(own.clone()), rounds: 4_096 };
    let scram = Scram::offered([SCRAM_SHA_256.as_bytes()], Some(own), &NONCE).unwrap();
    assert_eq!(scram.mechanism(), SCRAM_SHA_256);
    assert_eq!(run(&server, scram, b"pencil"), Err(ScramError::Server));
}

#[test]
fn a_wrong_password_fails_on_both_sides() {
    let server = Server { password: b"pencil", binding: None, rounds: 4_096 };
    let scram = || Scram::new(None, false, &NONCE);
    assert_eq!(run(&server, scram(), b"pencil2"), Err(ScramError::Server));
    // One that lets everybody in does not know the verifier.
    let mut fooled = scram();
    let last = Server { password: b"other", binding: None, rounds: 4_096 };
    let _ = last.run(&mut fooled, &login(b"pencil")).unwrap();
    let forged = format!("v={}", STANDARD.encode([0; 32]));
    assert_eq!(fooled.finish(forged.as_bytes()), Err(ScramError::Signature));
}

#[test]
fn every_byte_of_the_signature_counts() {
    let mut scram = vector();
    let first = vector::SERVER_FIRST.as_bytes();
    scram.prove(&login(b"pencil"), first, &mut Vec::new()).unwrap();
    let signature = STANDARD.decode(vector::SERVER_FINAL.strip_prefix("v=").unwrap()).unwrap();
    let finish =
        |signature: &[u8]| scram.finish(format!("v={}", STANDARD.encode(signature)).as_bytes());
    assert_eq!(finish(&signature), Ok(()));
    for place in 0..signature.len() {
        for bit in 0..8 {
            let mut bent = signature.clone();
            *bent.get_mut(place).unwrap() ^= 1 << bit;
            assert_eq!(finish(&bent), Err(ScramError::Signature));
        }
        assert_eq!(finish(signature.get(..place).unwrap()), Err(ScramError::Signature));
    }
    assert_eq!(finish(&[&signature[..], b"x"].concat()), Err(ScramError::Signature));
    for (last, error) in [
        ("e=invalid-proof", ScramError::Server),
        ("", ScramError::Malformed),
        ("v", ScramError::Malformed),
        ("v=", ScramError::Signature),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", ScramError::Malformed),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=y", ScramError::Malformed),
        ("V=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ScramError::Malformed),
    ] {
        assert_eq!(scram.finish(last.as_bytes()), Err(error), "{last}");
    }
    assert_eq!(scram.finish(&[b'v'; MESSAGE_LEN_MAX + 1]), Err(ScramError::TooLong));
    assert_eq!(scram.finish(b"v=\xff"), Err(ScramError::Malformed));
}

#[test]
fn a_first_message_that_is_not_as_it_must_be_is_refused() {
    let own = vector::NONCE;
    let longest = "A".repeat(4 * 88);
    for (first, error) in [
        (String::new(), ScramError::Malformed),
        ("e=other-error".into(), ScramError::Server),
        (format!("m=x,r={own}x,s=QQ==,i=4096"), ScramError::Malformed),
        (format!("r={own}x,s=QQ==,i=4096,x=y"), ScramError::Malformed),
        (format!("r={own}x,s=QQ==,i=4096,"), ScramError::Malformed),
        (format!("r={own}x,s=QQ=="), ScramError::Malformed),
        (format!("r={own}x,i=4096,s=QQ=="), ScramError::Malformed),
        (format!(" r={own}x,s=QQ==,i=4096"), ScramError::Malformed),
        (format!("r={own},s=QQ==,i=4096"), ScramError::Nonce),
        ("r=,s=QQ==,i=4096".into(), ScramError::Nonce),
        ("r=another-nonce,s=QQ==,i=4096".into(), ScramError::Nonce),
        (format!("r=x{own},s=QQ==,i=4096"), ScramError::Nonce),
        (format!("r={own} x,s=QQ==,i=4096"), ScramError::Nonce),
        (format!("r={own}\u{7f},s=QQ==,i=4096"), ScramError::Nonce),
        (format!("r={own}\u{e9},s=QQ==,i=4096"), ScramError::Nonce),
        (format!("r={own}x,s=,i=4096"), ScramError::Salt),
        (format!("r={own}x,s=QQ,i=4096"), ScramError::Salt),
        (format!("r={own}x,s=QR==,i=4096"), ScramError::Salt),
        (format!("r={own}x,s=Q Q==,i=4096"), ScramError::Salt),
        (format!("r={own}x,s={longest},i=4096"), ScramError::Salt),
        (format!("r={own}x,s=QQ==,i="), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=0"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=1"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=4095"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=1000001"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=4294971392"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=-4096"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=+4096"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=04096"), ScramError::Iterations),
        (format!("r={own}x,s=QQ==,i=4096 "), ScramError::Iterations),
        (format!("r={own}{},s=QQ==,i=4096", "x".repeat(1_024)), ScramError::TooLong),
    ] {
        let (mut scram, mut to) = (vector(), Vec::new());
        assert_eq!(
            scram.prove(&login(b"pencil"), first.as_bytes(), &mut to),
            Err(error),
            "{first}"
        );
        assert!(to.is_empty(), "nothing is said");
        assert_eq!(scram.finish(vector::SERVER_FINAL.as_bytes()), Err(ScramError::Order));
    }
    let cut = vector::SERVER_FIRST.as_bytes();
    for len in 0..cut.len() {
        let part = cut.get(..len).unwrap();
        assert!(vector().prove(&login(b"pencil"), part, &mut Vec::new()).is_err(), "{len}");
    }
    let mut bytes = cut.to_vec();
    *bytes.get_mut(30).unwrap() = 0xff;
    let bent = vector().prove(&login(b"pencil"), &bytes, &mut Vec::new());
    assert_eq!(bent, Err(ScramError::Malformed));
}

/// A message with any one byte changed is refused, or answered with the nonce that it has.
#[test]
fn a_bent_first_message_is_refused_or_answered_as_it_stands() {
    let whole = vector::SERVER_FIRST.as_bytes();
    let login = login(b"pencil");
    for place in 0..whole.len() {
        for byte in [0, b',', b'=', b'1', b'A', 0x7f, 0xff] {
            let mut bent = whole.to_vec();
            *bent.get_mut(place).unwrap() = byte;
            let mut to = Vec::new();
            if vector().prove(&login, &bent, &mut to) == Ok(()) {
                let nonce = bent.split(|byte| *byte == b',').next().unwrap();
                assert!(to.starts_with(&[b"c=biws,", nonce, b",p="].concat()), "{place} {byte}");
            } else {
                assert!(to.is_empty());
            }
        }
    }
}

#[test]
fn a_second_answer_and_an_early_end_are_out_of_order() {
    let mut scram = vector();
    assert_eq!(scram.finish(vector::SERVER_FINAL.as_bytes()), Err(ScramError::Order));
    let first = vector::SERVER_FIRST.as_bytes();
    scram.prove(&login(b"pencil"), first, &mut Vec::new()).unwrap();
    let mut to = Vec::new();
    assert_eq!(scram.prove(&login(b"pencil"), first, &mut to), Err(ScramError::Order));
    assert!(to.is_empty());
}

#[test]
fn the_mechanism_is_the_strongest_that_fits() {
    let (plain, plus) = (SCRAM_SHA_256.as_bytes(), SCRAM_SHA_256_PLUS.as_bytes());
    let offered = |names: &[&'static [u8]], tls: bool| {
        let binding = tls.then(|| vec![1; 32]);
        Scram::offered(names.iter().copied(), binding, &NONCE).map(|scram| {
            let mut first = Vec::new();
            scram.first(&mut first);
            (scram.mechanism(), first.first().copied().unwrap())
        })
    };
    assert_eq!(offered(&[plus, plain], true), Ok((SCRAM_SHA_256_PLUS, b'p')));
    assert_eq!(offered(&[plus], true), Ok((SCRAM_SHA_256_PLUS, b'p')));
    assert_eq!(offered(&[b"OAUTHBEARER", plain], true), Ok((SCRAM_SHA_256, b'y')));
    assert_eq!(offered(&[plain], false), Ok((SCRAM_SHA_256, b'n')));
    for (names, tls) in [
        (&[][..], true),
        (&[b"OAUTHBEARER" as &[u8]][..], true),
        (&[plus], false),
        (&[plus, plain], false),
        (&[b"scram-sha-256"], false),
        (&[b"SCRAM-SHA-1"], true),
    ] {
        assert_eq!(offered(names, tls), Err(ScramError::Mechanism), "{names:?} {tls}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let mut scram = Scram::new(Some(vec![1; 32]), true, &NONCE);
    let server = Server { password: b"pencil", binding: Some(vec![1; 32]), rounds: 4_096 };
    server.run(&mut scram, &login(b"pencil")).unwrap();
    assert_eq!(format!("{scram:?}"), "Scram(SCRAM-SHA-256-PLUS)");
}
