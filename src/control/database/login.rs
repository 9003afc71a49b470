//! Logging in: the start-up packet, and what the server asks as a proof.
//!
//! ```text
//! Asked --(clear text, MD5)--> Sent --ok--> In --ready--> the connection may be used
//!     \--SASL--> Scram --final--> Proved --ok--'
//! ```

use super::link::Link;
use super::{Database, DatabaseError, ServerError, Target, Times};
use crate::base::Secret;
use crate::credential::{
    AuthMethod, AuthMethods, NONCE_LEN, OperatorLogin, Scram, server_end_point,
};
use crate::wire::postgres::{Auth, Backend, TxStatus, backend, write};
use ring::rand::{SecureRandom, SystemRandom};

enum Step {
    Asked,
    Sent,
    Scram(Box<Scram>),
    Proved,
    In,
}

/// Connects and logs in; `settings` go into the start-up packet.
pub(super) fn connect(
    target: &Target,
    login: &OperatorLogin,
    settings: &[(&str, &str)],
    times: Times,
) -> Result<Database, DatabaseError> {
    let link = Link::open(&target.host, target.port, target.tls.as_ref(), times.login)?;
    let certificate = link.certificate();
    let mut database = Database::over(link, login.echo(), times);
    let mut params: Vec<(&[u8], &[u8])> =
        vec![(b"user", login.user().as_bytes()), (b"database", target.database.as_bytes())];
    if let Some(role) = login.role() {
        params.push((b"role", role.as_bytes()));
    }
    params.extend(settings.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut packet = Vec::new();
    write::startup(0, &params, &mut packet);
    database.send(&packet)?;
    let mut step = Step::Asked;
    loop {
        let message = database.next_any()?;
        match backend(message.tag, &message.body)? {
            Backend::Auth(auth) => {
                let certificate = certificate.as_deref();
                let answer = answer(&auth, &mut step, login, target.auth, certificate)?;
                database.send(answer.expose())?;
            }
            Backend::Ready(status) if matches!(step, Step::In) => {
                database.status = status;
                break;
            }
            Backend::Status { name, value } => {
                if name == b"server_version" {
                    database.version = database.words(value);
                }
            }
            Backend::Key { .. } | Backend::Notice(_) | Backend::Negotiate { .. } => {}
            Backend::Error(fields) => return Err(refused((&fields).into(), login)),
            _ => return Err(DatabaseError::Order("a message that is not of a login")),
        }
    }
    debug_assert_ne!(database.status, TxStatus::Failed);
    database.begin();
    Ok(database)
}

/// A server that was told the password may tell it back, and what it says is printed.
fn refused(error: ServerError, login: &OperatorLogin) -> DatabaseError {
    if login.is_in(&error.message) || error.detail.as_deref().is_some_and(|text| login.is_in(text))
    {
        let message = "its words are withheld: they hold the password".to_owned();
        return DatabaseError::Refused(ServerError { code: error.code, message, detail: None });
    }
    DatabaseError::Refused(error)
}

/// What the server's request for proof is answered with; nothing for those that need no answer.
fn answer(
    auth: &Auth<'_>,
    step: &mut Step,
    login: &OperatorLogin,
    methods: AuthMethods,
    certificate: Option<&[u8]>,
) -> Result<Secret, DatabaseError> {
    let mut to = Vec::new();
    let asked = matches!(step, Step::Asked);
    match (auth, &mut *step) {
        (Auth::Cleartext | Auth::Md5 { .. } | Auth::Sasl { .. }, _)
            if asked && !login.has_secret() =>
        {
            return Err(DatabaseError::NoSecret);
        }
        (Auth::Cleartext, _) if asked && methods.allows(AuthMethod::Cleartext) => {
            let mut text = Vec::new();
            login.password(&mut text);
            write::secret(&text, &mut to);
            drop(Secret::new(text));
            *step = Step::Sent;
        }
        (Auth::Md5 { salt }, _) if asked && methods.allows(AuthMethod::Md5) => {
            let mut digest = Vec::new();
            login.md5(*salt, &mut digest);
            write::secret(&digest, &mut to);
            drop(Secret::new(digest));
            *step = Step::Sent;
        }
        (Auth::Sasl { mechanisms }, _) if asked && methods.allows(AuthMethod::ScramSha256) => {
            let binding = certificate.map(server_end_point).transpose()?;
            let mut nonce = [0; NONCE_LEN];
            SystemRandom::new().fill(&mut nonce).map_err(|_| DatabaseError::NoRandom)?;
            let scram = Scram::offered(*mechanisms, binding, &nonce)?;
            let mut first = Vec::new();
            scram.first(&mut first);
            write::sasl_initial(scram.mechanism(), &first, &mut to);
            *step = Step::Scram(Box::new(scram));
        }
        (Auth::SaslContinue(challenge), Step::Scram(scram)) => {
            let mut proof = Vec::new();
            scram.answer_for_operator(login, challenge, &mut proof)?;
            write::sasl_response(&proof, &mut to);
        }
        (Auth::SaslFinal(verdict), Step::Scram(scram)) => {
            scram.finish(verdict)?;
            *step = Step::Proved;
        }
        (Auth::Ok, Step::Sent | Step::Proved) => *step = Step::In,
        // Who brings no password takes a server that asks for none.
        (Auth::Ok, Step::Asked) if !login.has_secret() => *step = Step::In,
        (Auth::Ok, _) => return Err(DatabaseError::NoProof),
        (Auth::Cleartext, _) if asked => {
            return Err(DatabaseError::Method(AuthMethod::Cleartext.label()));
        }
        (Auth::Md5 { .. }, _) if asked => {
            return Err(DatabaseError::Method(AuthMethod::Md5.label()));
        }
        (Auth::Sasl { .. }, _) if asked => {
            return Err(DatabaseError::Method(AuthMethod::ScramSha256.label()));
        }
        (Auth::Other(_), _) if asked => return Err(DatabaseError::Method("one not known here")),
        _ => return Err(DatabaseError::Order("a proof was asked for twice")),
    }
    Ok(Secret::new(to))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn login(secret: &[u8]) -> OperatorLogin {
        OperatorLogin::new("app".into(), Secret::new(secret.to_vec()), None)
    }

    fn ask(auth: &Auth<'_>, secret: &[u8], methods: AuthMethods) -> Result<Vec<u8>, String> {
        let answer = answer(auth, &mut Step::Asked, &login(secret), methods, None);
        answer.map(|text| text.expose().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_goes_by_no_method_that_is_not_allowed() {
        let (scram, all) = (
            AuthMethods::default(),
            AuthMethods::default().with(AuthMethod::Md5).with(AuthMethod::Cleartext),
        );
        let md5 = Auth::Md5 { salt: [1, 2, 3, 4] };
        for auth in [Auth::Cleartext, md5, Auth::Other(7)] {
            assert!(ask(&auth, b"hunter2-hunter2", scram).is_err(), "{auth:?}");
        }
        assert_eq!(ask(&Auth::Cleartext, b"pw", all).unwrap(), b"p\0\0\0\x07pw\0");
        assert!(ask(&md5, b"pw", all).unwrap().starts_with(b"p\0\0\0\x28md5"));
        assert!(ask(&Auth::Cleartext, b"", all).unwrap_err().contains("password"));
    }

    #[test]
    fn a_password_that_a_server_tells_back_is_not_told_on() {
        let told = |message: &str, detail: Option<&str>| {
            let code = "28P01".to_owned();
            let detail = detail.map(str::to_owned);
            let error = ServerError { code, message: message.to_owned(), detail };
            refused(error, &login(b"hunter2-hunter2")).to_string()
        };
        assert!(told("no user app", None).contains("no user app"));
        for text in
            [told("what is hunter2-hunter2?", None), told("x", Some("DETAIL hunter2-hunter2"))]
        {
            assert!(text.contains("withheld") && !text.contains("hunter"), "{text}");
        }
    }

    #[test]
    fn a_server_that_asks_for_nothing_proves_nothing() {
        let methods = AuthMethods::default();
        assert!(ask(&Auth::Ok, b"hunter2-hunter2", methods).is_err());
        assert_eq!(ask(&Auth::Ok, b"", methods).unwrap(), b"");
        let mut step = Step::Asked;
        for auth in [Auth::SaslContinue(b"r=x"), Auth::SaslFinal(b"v=x")] {
            assert!(answer(&auth, &mut step, &login(b"x"), methods, None).is_err());
        }
    }
}
