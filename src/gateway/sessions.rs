//! Sessions with their worker: what `runtime` drives.

use super::approving::{Bridge, Letter, LetterBox};
use crate::base::{ExchangeId, ListenerId, Now};
use crate::config::Protocol;
use crate::control::drain::DrainHandle;
use crate::control::keys::{Asker, Format};
use crate::identity::{CertificateRules, KeySnapshot, Principal, from_certificate};
use crate::runtime::map::RingJournal;
use crate::runtime::{self, CallerLink, Disk, Mail, Published};
use crate::session::cancels::Cancels;
use crate::session::relations::Relations;
use crate::session::{self, Counts, Input, Interest, Out, Petition, Snapshot, Worker};
use ring::rand::{SecureRandom, SystemRandom};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

/// What the workers' thread needs to make its sessions; sent to it at start.
pub(super) struct Recipe<F: Format<Snapshot = KeySnapshot>> {
    pub(super) snapshot: Arc<Published<Snapshot>>,
    pub(super) keys: Arc<Published<KeySnapshot>>,
    pub(super) asker: Asker<F>,
    pub(super) journal: RingJournal,
    pub(super) drain: DrainHandle,
    /// Its number, and what the drain rings.
    pub(super) place: u32,
    pub(super) bell: UnixStream,
    pub(super) mail: Mail,
    pub(super) cancels: Arc<Cancels>,
    pub(super) relations: Arc<Relations>,
    pub(super) bridge: Bridge,
    pub(super) counts: Arc<Mutex<Counts>>,
    pub(super) listeners: Vec<(Protocol, Option<CertificateRules>)>,
    pub(super) seed: [u64; 4],
}

/// One worker's sessions.
pub(super) struct Sessions<F: Format<Snapshot = KeySnapshot>> {
    shared: Rc<Shared<F>>,
}

struct Shared<F: Format<Snapshot = KeySnapshot>> {
    worker: RefCell<Worker<RingJournal>>,
    snapshot: Arc<Published<Snapshot>>,
    keys: Arc<Published<KeySnapshot>>,
    asker: Asker<F>,
    drain: DrainHandle,
    place: u32,
    bell: std::cell::Cell<Option<UnixStream>>,
    mail: std::cell::Cell<Option<Mail>>,
    cancels: Arc<Cancels>,
    bridge: Bridge,
    counts: Arc<Mutex<Counts>>,
    listeners: Vec<(Protocol, Option<CertificateRules>)>,
    seen: std::cell::Cell<(u64, u64)>,
}

/// A session of any protocol.
pub(super) struct Session<F: Format<Snapshot = KeySnapshot>> {
    shared: Rc<Shared<F>>,
    flow: Flow,
    /// Where answers of the owner of approvals lie; made with the first question.
    letters: Option<LetterBox>,
}

enum Flow {
    Http(Box<session::http::Session>),
    Tcp(Box<session::tcp::Session>),
    Postgres(Box<session::postgres::Session>),
}

impl<F: Format<Snapshot = KeySnapshot>> Recipe<F> {
    /// Makes them, on the worker's thread.
    pub(super) fn cook(self) -> Sessions<F> {
        let (snapshot, snapshot_generation) = self.snapshot.load();
        let (keys, keys_generation) = self.keys.load();
        let mut worker = Worker::new(snapshot, keys, self.journal, self.seed);
        worker.relations = self.relations;
        Sessions {
            shared: Rc::new(Shared {
                worker: RefCell::new(worker),
                snapshot: self.snapshot,
                keys: self.keys,
                asker: self.asker,
                drain: self.drain,
                place: self.place,
                bell: std::cell::Cell::new(Some(self.bell)),
                mail: std::cell::Cell::new(Some(self.mail)),
                cancels: self.cancels,
                bridge: self.bridge,
                counts: self.counts,
                listeners: self.listeners,
                seen: std::cell::Cell::new((snapshot_generation, keys_generation)),
            }),
        }
    }
}

impl<F: Format<Snapshot = KeySnapshot>> Shared<F> {
    /// Takes over what was published since the last look: two atomic loads when nothing was.
    fn refresh(&self, worker: &mut Worker<RingJournal>) {
        let (mut snapshot_seen, mut keys_seen) = self.seen.get();
        if self.snapshot.generation() != snapshot_seen {
            let (snapshot, generation) = self.snapshot.load();
            worker.reload(snapshot);
            snapshot_seen = generation;
        }
        if self.keys.generation() != keys_seen {
            (worker.keys, keys_seen) = self.keys.load();
        }
        self.seen.set((snapshot_seen, keys_seen));
        worker.record_full = self.drain.refusing();
    }
}

impl<F: Format<Snapshot = KeySnapshot>> Drop for Sessions<F> {
    /// Gap entries that are owed are written while there is a drain.
    fn drop(&mut self) {
        if let Ok(mut worker) = self.shared.worker.try_borrow_mut() {
            worker.tick(runtime::now());
        }
    }
}

impl<F: Format<Snapshot = KeySnapshot>> runtime::Sessions for Sessions<F> {
    type S = Session<F>;

    fn open(&self, peer: SocketAddr, listener: ListenerId, link: CallerLink) -> Session<F> {
        let now = runtime::now();
        let connection = self.shared.worker.borrow_mut().next_connection();
        let found = self.shared.listeners.get(listener.index());
        let flow = match found {
            Some((Protocol::Tcp, rules)) => {
                let principal = principal(rules.as_ref(), link.certificate.as_deref(), now);
                let peer = peer.to_string();
                Flow::Tcp(Box::new(session::tcp::Session::new(
                    listener, connection, peer, principal, now,
                )))
            }
            Some((Protocol::Postgres, rules)) => {
                let mut random = [0; session::postgres::RANDOM_LEN];
                let random = SystemRandom::new().fill(&mut random).ok().map(|()| random);
                let opened = session::postgres::Opened {
                    listener,
                    connection,
                    caller: peer,
                    secure: link.secure,
                    principal: principal(rules.as_ref(), link.certificate.as_deref(), now),
                    random,
                    cancels: Some((Arc::clone(&self.shared.cancels), (self.shared.place, link.id))),
                };
                Flow::Postgres(Box::new(session::postgres::Session::new(opened, now)))
            }
            _ => Flow::Http(Box::new(session::http::Session::new(
                listener,
                connection,
                peer,
                link.server_name,
                now,
            ))),
        };
        Session { shared: Rc::clone(&self.shared), flow, letters: None }
    }

    fn bell(&self) -> Option<UnixStream> {
        self.shared.bell.take()
    }

    fn mail(&self) -> Option<Mail> {
        self.shared.mail.take()
    }

    fn tick(&self, now: Now) {
        let mut worker = self.shared.worker.borrow_mut();
        self.shared.refresh(&mut worker);
        worker.tick(now);
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.copy_from(&worker.counts);
    }
}

fn principal(
    rules: Option<&CertificateRules>,
    certificate: Option<&[u8]>,
    now: Now,
) -> Option<Principal> {
    let (rules, certificate) = rules.zip(certificate)?;
    match from_certificate(rules, certificate, now) {
        Ok(principal) => Some(principal),
        Err(error) => {
            tracing::info!(reason = error.label(), "client certificate refused");
            None
        }
    }
}

impl<F: Format<Snapshot = KeySnapshot>> Session<F> {
    /// Hands over what lies in the letter box, in its order.
    fn read_letters(&mut self, now: Now, out: &mut Out) {
        let letters = self.letters.as_ref().map(LetterBox::take).unwrap_or_default();
        for letter in letters {
            match letter {
                Letter::Verdict(exchange, verdict) => {
                    self.step(Input::Verdict(exchange, verdict), now, out);
                }
                Letter::Shown(exchange, found) => {
                    self.step(Input::Shown(exchange, found.as_deref()), now, out);
                }
            }
        }
    }

    fn step(&mut self, input: Input<'_>, now: Now, out: &mut Out) -> usize {
        let mut worker = self.shared.worker.borrow_mut();
        self.shared.refresh(&mut worker);
        let used = match &mut self.flow {
            Flow::Http(session) => session.handle(input, now, &mut worker, out),
            Flow::Tcp(session) => session.handle(input, now, &mut worker, out),
            Flow::Postgres(session) => session.handle(input, now, &mut worker, out),
        };
        if let Some((issuer, name)) = worker.key_wanted.take() {
            // Single flight and rate are control's; the caller's retry finds the key.
            let _ = self.shared.asker.ask(issuer, name);
        }
        used
    }
}

impl<F: Format<Snapshot = KeySnapshot>> Drop for Session<F> {
    fn drop(&mut self) {
        if let Some(letters) = &self.letters {
            self.shared.bridge.close(letters);
        }
    }
}

impl<F: Format<Snapshot = KeySnapshot>> runtime::Session for Session<F> {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Out) -> usize {
        if let Input::News = input {
            self.read_letters(now, out);
            return 0;
        }
        self.step(input, now, out)
    }

    fn petition(&mut self, exchange: ExchangeId, petition: Petition, id: u64) {
        let letters = self.letters.get_or_insert_default();
        self.shared.bridge.put(exchange, petition, id, letters);
    }

    fn interest(&self) -> Interest {
        match &self.flow {
            Flow::Http(session) => session.interest(),
            Flow::Tcp(session) => session.interest(),
            Flow::Postgres(session) => session.interest(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        let worker = self.shared.worker.borrow();
        match &self.flow {
            Flow::Http(session) => session.deadline(&worker),
            Flow::Tcp(session) => session.deadline(&worker),
            Flow::Postgres(session) => session.deadline(&worker),
        }
    }

    fn disk(&self) -> Disk {
        let until = match &self.flow {
            Flow::Http(session) => session.waits_for(),
            Flow::Tcp(session) => session.waits_for(),
            Flow::Postgres(session) => session.waits_for(),
        };
        let Some(until) = until else { return Disk::Idle };
        let durable = self.shared.drain.durable(self.shared.place);
        if durable >= until { Disk::Reached(durable) } else { Disk::Waits }
    }

    fn hurry(&self) {
        self.shared.drain.hurry(self.shared.place);
    }

    fn is_closed(&self) -> bool {
        match &self.flow {
            Flow::Http(session) => session.is_closed(),
            Flow::Tcp(session) => session.is_closed(),
            Flow::Postgres(session) => session.is_closed(),
        }
    }

    fn tidy(&mut self) {
        match &mut self.flow {
            Flow::Http(session) => session.tidy(),
            // They have no exchange to be idle between.
            Flow::Tcp(_) | Flow::Postgres(_) => {}
        }
    }
}
