//! The gateway's own login to the server, with the credential that the grant opens.
//!
//! The server must prove itself where the method can (SCRAM, RFC 5802), and may ask for no method
//! that the resource does not allow. What it says about roles and hosts stays here.

use super::refuse::Denied;
use super::start::Start;
use super::{Phase, Session, settings};
use crate::base::{Now, Secret};
use crate::credential::{
    AuthMethod, AuthMethods, Credential, NONCE_LEN, Scram, nonce_of, server_end_point,
};
use crate::policy::Grant;
use crate::record::Journal;
use crate::record::fields::{Tag, Writer};
use crate::session::gate;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::postgres::{Auth, Backend, FRAME_HEAD, TxStatus, backend, frame, write};

/// A login under way.
pub(super) struct Login {
    opened: gate::Opened,
    methods: AuthMethods,
    /// The certificate that the server showed.
    certificate: Option<Vec<u8>>,
    /// Of this login alone (RFC 5802, section 5.1).
    nonce: [u8; NONCE_LEN],
    step: Step,
    /// Settings that the server reported and callers may hear, as messages.
    statuses: Vec<u8>,
    key: Option<(u32, Box<[u8]>)>,
}

enum Step {
    /// Waiting for the server to ask.
    Asked,
    /// A password was sent; the server says whether it holds.
    Sent,
    /// SCRAM is under way.
    Scram(Box<Scram>),
    /// SCRAM came to its end, and the server proved itself.
    Proved,
    /// The login holds; the server tells its settings.
    In,
}

/// What went wrong with a login; for the log, not for the caller.
struct Fault(&'static str);

impl Session {
    /// The link to the server stands: says who the gateway is.
    pub(super) fn on_connected<J: Journal>(
        &mut self,
        certificate: Option<&[u8]>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Phase::Connecting(start) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        match self.begin_login(&start, certificate, now, worker, out) {
            Ok(login) => self.phase = Phase::Login(Box::new(login)),
            Err(denied) => self.refuse_login(denied, now, worker, out),
        }
    }

    fn begin_login<J: Journal>(
        &mut self,
        start: &Start,
        certificate: Option<&[u8]>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<Login, Denied> {
        let unreachable = || Denied::of(Refusal::Unreachable, "");
        let snapshot = self.snapshot.clone().ok_or_else(unreachable)?;
        let (grant, credential) = self.opener().ok_or_else(unreachable)?;
        let random = self.opened.random.ok_or_else(unreachable)?;
        let nonce = nonce_of(random.get(SEED..).unwrap_or_default(), self.logins);
        self.logins += 1;
        let credential = snapshot.credential(credential).ok_or_else(unreachable)?;
        let view = self.resource.and_then(|id| snapshot.resource(id)).ok_or_else(unreachable)?;
        self.facts.clear();
        Writer::new(&mut self.facts).text(Tag::Credential, credential.name());
        let subject = self.opening_subject();
        let opened = gate::open(&grant, subject, &self.facts, worker.books(), now)
            .map_err(|_| Denied::of(Refusal::Unrecordable, ""))?;
        let user = credential.user().ok_or_else(unreachable)?;
        let mut params: Vec<(&[u8], &[u8])> =
            vec![(b"user", user.as_bytes()), (b"database", view.database.as_bytes())];
        params.extend(settings::PINNED);
        if let Some(role) = credential.role() {
            params.push((b"role", role.as_bytes()));
        }
        params
            .extend(start.settings.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
        let said = opened.say(&mut self.stage, |to| {
            write::startup(2, &params, to);
            Ok::<(), Fault>(())
        });
        if let Ok(admitted) = said {
            out.push_upstream(admitted);
        }
        Ok(Login {
            opened,
            methods: view.auth,
            certificate: certificate.map(<[u8]>::to_vec),
            nonce,
            step: Step::Asked,
            statuses: Vec::new(),
            key: None,
        })
    }

    /// Messages of the server before its first ready for query.
    pub(super) fn on_login<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let (mut at, opener) = (0, self.opener());
        while let Phase::Login(login) = &mut self.phase {
            let rest = bytes.get(at..).unwrap_or_default();
            let head = match frame(rest) {
                Ok(Some(head)) if head.len <= LOGIN_LEN_MAX => head,
                Ok(None) => return at,
                Ok(Some(_)) | Err(_) => {
                    self.login_failed(&Fault("a message out of bounds"), now, worker, out);
                    return bytes.len();
                }
            };
            let len = FRAME_HEAD + head.len;
            let Some(body) = rest.get(FRAME_HEAD..len) else { return at };
            at += len;
            let told = match backend(head.tag, body) {
                Err(_) => Err(Fault("a malformed message")),
                Ok(Backend::Auth(auth)) => {
                    let snapshot = self.snapshot.clone();
                    let credential = opener
                        .as_ref()
                        .and_then(|(grant, id)| Some((grant, snapshot.as_ref()?.credential(*id)?)));
                    let answer = match credential {
                        Some((grant, credential)) => login.answer(&auth, grant, credential),
                        None => Err(Fault("the credential is gone")),
                    };
                    answer.and_then(|text| {
                        let said = login.opened.say(&mut self.stage, |to| {
                            to.extend_from_slice(text.expose());
                            Ok::<(), Fault>(())
                        })?;
                        out.push_upstream(said);
                        Ok(())
                    })
                }
                Ok(Backend::Status { name, value }) => {
                    self.sway.reports(name, value);
                    if is_told(name) {
                        let mut cleared = Vec::new();
                        let plan = self.masking.as_ref().map(|masking| &masking.plan);
                        let changed =
                            plan.is_some_and(|plan| plan.clear_statement(value, &mut cleared));
                        let told = if changed { &cleared } else { value };
                        write::status(name, told, &mut login.statuses);
                    }
                    if login.statuses.len() > LOGIN_LEN_MAX {
                        Err(Fault("settings without end"))
                    } else {
                        Ok(())
                    }
                }
                Ok(Backend::Key { pid, secret }) => {
                    login.key = Some((pid, secret.into()));
                    Ok(())
                }
                Ok(Backend::Negotiate { version, options }) => {
                    // The server speaks an earlier minor; options were not asked for.
                    let options = options.count();
                    if version >> 16 > 3 || options > 0 {
                        Err(Fault("a negotiation that was not asked for"))
                    } else {
                        Ok(())
                    }
                }
                Ok(Backend::Notice(_)) => Ok(()),
                Ok(Backend::Error(fields)) => {
                    let code = String::from_utf8_lossy(fields.get(b'C').unwrap_or_default());
                    tracing::warn!(request = %self.link, sqlstate = %code, "the resource refused the login");
                    Err(Fault("an error"))
                }
                Ok(Backend::Ready(status)) => {
                    if matches!(login.step, Step::In) {
                        self.become_ready(status, now, worker, out);
                        continue;
                    }
                    Err(Fault("ready before the login held"))
                }
                Ok(_) => Err(Fault("a message that is not of a login")),
            };
            if let Err(fault) = told {
                self.login_failed(&fault, now, worker, out);
                return bytes.len();
            }
        }
        at
    }

    fn login_failed<J: Journal>(
        &mut self,
        fault: &Fault,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        tracing::warn!(request = %self.link, fault = fault.0, "no login to the resource");
        let denied = Denied::of(Refusal::Unreachable, "The resource did not accept the gateway.");
        self.refuse_login(denied, now, worker, out);
    }

    /// Without home there is no connection; without another session its statement is refused.
    pub(super) fn refuse_login<J: Journal>(
        &mut self,
        denied: Denied,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.is_home() {
            self.refuse_all(&denied, now, worker, out);
        } else {
            self.beside_failed(denied, now, worker, out);
        }
    }

    /// Tells the caller that it is in.
    fn become_ready<J: Journal>(
        &mut self,
        status: TxStatus,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Phase::Login(login) = std::mem::replace(&mut self.phase, Phase::Ready) else { return };
        self.tx = status;
        let Login { opened, statuses, key, .. } = *login;
        (self.login, self.upstream_key) = (Some(opened), key);
        if !self.is_home() {
            // The caller has its key and its settings, which are those of home.
            return self.on_in_hand(now, worker, out);
        }
        if !self.refresh_first(&statuses, status, now, worker, out) {
            self.tell_in(&statuses, status, now, worker, out);
        }
        if let Some(credential) =
            self.snapshot.as_ref().and_then(|snapshot| snapshot.credential(self.credential))
        {
            tracing::info!(
                session = %self.link,
                credential = credential.name(),
                "connected to the resource"
            );
        }
    }
}

impl Session {
    /// The last messages of the start, as the caller's server would say them.
    pub(super) fn tell_in<J: Journal>(
        &mut self,
        statuses: &[u8],
        status: TxStatus,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let told = |to: &mut Vec<u8>| {
            write::auth_ok(to);
            to.extend_from_slice(statuses);
        };
        self.tell(told, now, worker, out);
        // It is in no record: whoever reads that must not cancel.
        let mut key = Vec::new();
        self.give_key(&mut key);
        out.push_caller(gate::release_negotiation(&mut self.stage, |to| {
            to.extend_from_slice(&key);
        }));
        self.tell(|to| write::ready(status, to), now, worker, out);
    }
}

impl Login {
    /// What the server's request for proof is answered with; nothing for those that need none.
    fn answer(
        &mut self,
        auth: &Auth<'_>,
        grant: &Grant,
        credential: &Credential,
    ) -> Result<Secret, Fault> {
        let mut text = Vec::new();
        let told = self.write_answer(auth, grant, credential, &mut text);
        let text = Secret::new(text);
        told.map(|()| text)
    }

    fn write_answer(
        &mut self,
        auth: &Auth<'_>,
        grant: &Grant,
        credential: &Credential,
        to: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        match (auth, &mut self.step) {
            (Auth::Cleartext, Step::Asked) if self.methods.allows(AuthMethod::Cleartext) => {
                let mut secret = Vec::new();
                credential.password(grant, &mut secret);
                write::secret(&secret, to);
                drop(Secret::new(secret));
                self.step = Step::Sent;
            }
            (Auth::Md5 { salt }, Step::Asked) if self.methods.allows(AuthMethod::Md5) => {
                let mut digest = Vec::new();
                credential.md5(grant, *salt, &mut digest);
                write::secret(&digest, to);
                drop(Secret::new(digest));
                self.step = Step::Sent;
            }
            (Auth::Sasl { mechanisms }, Step::Asked)
                if self.methods.allows(AuthMethod::ScramSha256) =>
            {
                let offers = |name: &[u8]| mechanisms.clone().any(|one| one == name);
                let plus = offers(b"SCRAM-SHA-256-PLUS");
                if !plus && !offers(b"SCRAM-SHA-256") {
                    return Err(Fault("no SASL mechanism that is known"));
                }
                let binding = self.certificate.as_deref().map(server_end_point);
                let binding =
                    binding.transpose().map_err(|_| Fault("a certificate without binding"))?;
                let scram = Scram::new(binding, plus, &self.nonce);
                let mut first = Vec::new();
                scram.first(&mut first);
                write::sasl_initial(scram.mechanism(), &first, to);
                self.step = Step::Scram(Box::new(scram));
            }
            (Auth::SaslContinue(challenge), Step::Scram(scram)) => {
                let mut proof = Vec::new();
                scram
                    .answer(grant, credential, challenge, &mut proof)
                    .map_err(|_| Fault("a challenge that does not hold"))?;
                write::sasl_response(&proof, to);
            }
            (Auth::SaslFinal(verdict), Step::Scram(scram)) => {
                scram
                    .finish(verdict)
                    .map_err(|_| Fault("a server that does not know the secret"))?;
                self.step = Step::Proved;
            }
            (Auth::Ok, Step::Sent | Step::Proved) => self.step = Step::In,
            (Auth::Ok, _) => return Err(Fault("no proof was asked for, or none was given")),
            _ => return Err(Fault("a method that the resource does not allow")),
        }
        Ok(())
    }
}

/// Settings of the server that callers may hear of, from the server's own reports.
pub(super) fn is_told(name: &[u8]) -> bool {
    const TOLD: [&[u8]; 12] = [
        b"server_version",
        b"server_encoding",
        b"client_encoding",
        b"application_name",
        b"DateStyle",
        b"IntervalStyle",
        b"TimeZone",
        b"integer_datetimes",
        b"standard_conforming_strings",
        b"in_hot_standby",
        b"default_transaction_read_only",
        b"search_path",
    ];
    TOLD.contains(&name)
}

/// The longest message of a login, and all its settings: they and challenges are short.
const LOGIN_LEN_MAX: usize = 64 << 10;
/// Where the random bytes begin that only nonces are made of.
const SEED: usize = 36;
