//! Whole PostgreSQL sessions, with a server that the target plays: a caller hears through the
//! gateway what it would hear from the server itself, whatever comes in between; rows stand in the
//! record under the statement that made them; nothing goes up or down that is not recorded; what
//! is opened is closed; and what is denied never goes up.
//!
//! First byte: `h` the server is honest; `f` it is, and the journal runs full; `x` it says what
//! the input has; `m` is another module's: rows under masks. What follows is a script, one letter an act and letters (`a` is the first) for
//! what it takes: the caller's messages (`P` name text, `B` portal name, `E` portal, `D` and `C` kind
//! name, `Q` text, `S`, `H`, `d`, `c`, `f`, `X`), `>` lets some of what is sent pass, `l` reloads
//! the policy, `s` tag lets the server say something of its own (`x` only).

#![allow(clippy::indexing_slicing, reason = "the places are of the target's own making")]

use super::{cuts::Random, token};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use weirgate::base::{
    ConnectionId, CredentialId, ExchangeId, Limits, ListenerId, Now, Pieces, Protocol, ResourceId,
    Secret,
};
use weirgate::credential::{AuthMethod, AuthMethods, Credential, Form};
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::identity::{KeySnapshot, Verifier};
use weirgate::mask::{Plans, Shape};
use weirgate::policy::{Effect, Pattern, RuleSpec, Table};
use weirgate::record::{Kind, MemoryJournal};
use weirgate::session::postgres::{Opened, Session};
use weirgate::session::{Act, Ending, Input, ListenerView, Out, ResourceView, Snapshot, Worker};
use weirgate::wire::postgres::{FRAME_HEAD, Frontend, TxStatus, frame, frontend, write};

const PASSWORD: &[u8] = b"the-real-password-0123456789";
const DENIED: &str = "drop table t";
/// What callers say. A text with `nosuch` fails at the server.
const TEXTS: [&str; 18] = [
    "select 'r0' from t",
    "select 'r1' from u",
    "select nosuch from t",
    "begin",
    "commit",
    "rollback",
    "prepare a as select 'p6' from t",
    "prepare b as select 'p7' from u",
    "deallocate a",
    "declare c cursor for select 'c9' from u",
    "fetch 1 from c",
    "copy t from stdin",
    "",
    "close c",
    "select 'm1' from t; select 'm2' from u",
    DENIED,
    "deallocate all",
    "execute a",
];
/// Names on the wire; the last two are one to the server.
const NAMES: [&str; 5] = [
    "",
    "a",
    "c",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn1",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn2",
];

/// What a caller does.
enum Step {
    Say(Vec<u8>),
    Pass,
    Reload,
    Server(u8),
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((&mode, script)) = data.split_first() else { return };
    if mode == b'm' {
        return super::session_rows::run(script);
    }
    let steps = steps(script);
    let mut line = Line::new(mode, Random::of(data));
    line.login();
    for step in &steps {
        match step {
            Step::Say(message) => line.from_caller.extend_from_slice(message),
            Step::Pass => drop(line.pass()),
            Step::Reload => line.reload(),
            Step::Server(tag) if mode == b'x' => line.server_says(*tag),
            Step::Server(_) => {}
        }
    }
    while line.pass() {}
    let heard = line.heard.clone();
    let closed = line.session.is_closed();
    line.end();
    line.check();
    if mode == b'h' && !closed {
        let mut server = Server::default();
        let mut direct = Vec::new();
        let said: Vec<u8> = steps.iter().filter_map(Step::said).flatten().copied().collect();
        let mut rest = said.as_slice();
        while let Some((message, tail)) = split(rest) {
            server.take(message, &mut direct);
            rest = tail;
        }
        let (through, direct) = (told(&heard), told(&direct));
        let tags = |all: &[Vec<u8>]| all.iter().map(|one| char::from(one[0])).collect::<String>();
        assert!(through == direct, "{} and directly {}", tags(&through), tags(&direct));
    }
    // An honest server is never out of order.
    assert!(mode != b'h' || !has(&heard, b"out of order"), "out of step: {:?}", told(&heard));
}

impl Step {
    fn said(&self) -> Option<&Vec<u8>> {
        if let Self::Say(message) = self { Some(message) } else { None }
    }
}

fn steps(script: &[u8]) -> Vec<Step> {
    let mut bytes = script.iter().copied();
    let mut steps = Vec::new();
    while let Some(act) = bytes.next() {
        let mut pick = |count: usize| {
            bytes.next().map_or(0, |byte| usize::from(byte.wrapping_sub(b'a')) % count)
        };
        let mut to = Vec::new();
        match act {
            b'P' => {
                let (name, text) = (NAMES[pick(NAMES.len())], pick(TEXTS.len() - 1));
                write::parse(name.as_bytes(), TEXTS[text].as_bytes(), &[], &mut to);
            }
            b'B' => {
                let (portal, name) = (NAMES[pick(NAMES.len())], NAMES[pick(NAMES.len())]);
                write::bind(portal.as_bytes(), name.as_bytes(), &[], &[], &[], &mut to);
            }
            b'E' => write::execute(NAMES[pick(NAMES.len())].as_bytes(), 0, &mut to),
            b'D' => {
                // A refusal that the server does not see leaves it the unnamed statement: harmless,
                // and told by Describe alone.
                let (portal, name) = (pick(2) == 1, pick(NAMES.len() - 1) + 1);
                let name = NAMES[name];
                write::describe(portal, name.as_bytes(), &mut to);
            }
            b'C' => {
                let (portal, name) = (pick(2) == 1, NAMES[pick(NAMES.len())]);
                write::close(portal, name.as_bytes(), &mut to);
            }
            b'Q' => write::query(TEXTS[pick(TEXTS.len())].as_bytes(), &mut to),
            b'S' => write::sync(&mut to),
            b'H' => write::flush(&mut to),
            b'X' => write::terminate(&mut to),
            b'd' => {
                let len = 4 + 7 * u32::from(bytes.next().unwrap_or(0)).pow(2);
                to.push(b'd');
                to.extend_from_slice(&len.to_be_bytes());
                to.resize(1 + len as usize, b'x');
            }
            b'c' => write::copy_done(&mut to),
            b'f' => write::copy_fail(b"no", &mut to),
            b'>' => steps.push(Step::Pass),
            b'l' => steps.push(Step::Reload),
            b's' => steps.push(Step::Server(bytes.next().unwrap_or(b'Z'))),
            _ => {}
        }
        if !to.is_empty() {
            steps.push(Step::Say(to));
        }
    }
    steps.truncate(400);
    steps
}

/// The first message of `bytes`, and what is behind it.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = frame(bytes).ok()??;
    bytes.split_at_checked(FRAME_HEAD + head.len)
}

/// What was told, message by message: errors by their kind alone, the rest whole.
fn told(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some((message, tail)) = split(bytes) {
        all.push(if message[0] == b'E' { b"E".to_vec() } else { message.to_vec() });
        bytes = tail;
    }
    assert!(bytes.is_empty(), "a part of a message");
    all
}

pub(super) fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A server that knows the texts above and behaves as PostgreSQL 15 does.
#[derive(Default)]
struct Server {
    statements: BTreeMap<Vec<u8>, &'static str>,
    portals: BTreeMap<Vec<u8>, (&'static str, bool)>,
    tx: Option<bool>,
    /// Up to the next Sync.
    skips: bool,
    /// What goes on behind a COPY that waits for data: of a simple query, or of Execute.
    copying: Option<Option<Vec<&'static str>>>,
    gone: bool,
}

struct Failed;

fn key(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(63)].to_vec()
}

fn known(text: &[u8]) -> Option<&'static str> {
    TEXTS.into_iter().find(|one| one.as_bytes() == text)
}

fn inner(text: &'static str) -> &'static str {
    text.find("select").map_or("", |at| &text[at..])
}

impl Server {
    fn status(&self) -> TxStatus {
        match self.tx {
            None => TxStatus::Idle,
            Some(false) => TxStatus::Transaction,
            Some(true) => TxStatus::Failed,
        }
    }

    fn ready(&mut self, to: &mut Vec<u8>) {
        if self.tx.is_none() {
            self.portals.clear();
        }
        write::ready(self.status(), to);
    }

    fn fail(&mut self, to: &mut Vec<u8>) {
        self.tx = self.tx.map(|_| true);
        if self.tx.is_none() {
            self.portals.clear();
        }
        write::error("ERROR", "42601", "failed", None, None, to);
    }

    fn take(&mut self, message: &[u8], to: &mut Vec<u8>) {
        if self.gone {
            return;
        }
        let parsed = frontend(message[0], &message[FRAME_HEAD..]).expect("a sound message");
        if let Some(behind) = self.copying.take() {
            return self.copy(&parsed, behind, to);
        }
        if self.skips && !matches!(parsed, Frontend::Sync | Frontend::Terminate) {
            return;
        }
        let done = match parsed {
            Frontend::Query(text) => {
                self.statements.remove(&b""[..]);
                let texts = known(text).map(|text| {
                    let parts = text.split("; ").collect::<Vec<_>>();
                    if text.contains(DENIED) { Vec::new() } else { parts }
                });
                return self.simple(texts.unwrap_or_default(), to);
            }
            Frontend::Parse { name, text, .. } => self.parse(name, text, to),
            Frontend::Bind(bind) => self.bind(bind.portal, bind.statement, to),
            Frontend::Execute { portal, .. } => self.execute(portal, to),
            Frontend::Describe { portal, name } => self.describe(portal, name, to),
            Frontend::Close { portal, name } => {
                if portal {
                    self.portals.remove(&key(name));
                } else {
                    self.statements.remove(&key(name));
                }
                write::close_done(to);
                Ok(())
            }
            Frontend::Sync => {
                self.skips = false;
                self.ready(to);
                Ok(())
            }
            Frontend::Terminate => {
                self.gone = true;
                Ok(())
            }
            _ => Ok(()),
        };
        if done.is_err() {
            self.fail(to);
            self.skips = true;
        }
    }

    fn copy(&mut self, parsed: &Frontend<'_>, behind: Option<Vec<&'static str>>, to: &mut Vec<u8>) {
        match parsed {
            Frontend::CopyDone => {
                write::complete(b"COPY 1", to);
                if let Some(rest) = behind {
                    self.simple_rest(rest, to);
                }
            }
            Frontend::CopyFail(_) => {
                self.fail(to);
                if behind.is_some() { self.ready(to) } else { self.skips = true }
            }
            Frontend::CopyData(_) | Frontend::Sync | Frontend::Flush => {
                self.copying = Some(behind);
            }
            _ => {
                write::error("FATAL", "08P01", "lost", None, None, to);
                self.gone = true;
            }
        }
    }

    /// Empty: what the grammar refuses, or what no server should get.
    fn simple(&mut self, texts: Vec<&'static str>, to: &mut Vec<u8>) {
        if texts.is_empty() {
            self.fail(to);
            return self.ready(to);
        }
        if texts == [""] {
            write::empty(to);
            return self.ready(to);
        }
        self.simple_rest(texts, to);
    }

    fn simple_rest(&mut self, mut texts: Vec<&'static str>, to: &mut Vec<u8>) {
        while !texts.is_empty() {
            let text = texts.remove(0);
            if self.run(text, true, to).is_err() {
                self.fail(to);
                break;
            }
            if text.starts_with("copy") {
                self.copying = Some(Some(texts));
                return;
            }
        }
        self.ready(to);
    }

    fn parse(&mut self, name: &[u8], text: &[u8], to: &mut Vec<u8>) -> Result<(), Failed> {
        if name.is_empty() {
            self.statements.remove(name);
        }
        let text = known(text).filter(|text| *text != DENIED && !text.contains("; "));
        let text = text.ok_or(Failed)?;
        self.refuse_failed(text)?;
        if text.contains("nosuch") || self.statements.contains_key(&key(name)) {
            return Err(Failed);
        }
        self.statements.insert(key(name), text);
        write::parse_done(to);
        Ok(())
    }

    fn refuse_failed(&self, text: &str) -> Result<(), Failed> {
        let ends = matches!(text, "commit" | "rollback" | "");
        if self.tx == Some(true) && !ends { Err(Failed) } else { Ok(()) }
    }

    fn bind(&mut self, portal: &[u8], name: &[u8], to: &mut Vec<u8>) -> Result<(), Failed> {
        let text = *self.statements.get(&key(name)).ok_or(Failed)?;
        self.refuse_failed(text)?;
        if !portal.is_empty() && self.portals.contains_key(&key(portal)) {
            return Err(Failed);
        }
        self.portals.insert(key(portal), (text, false));
        write::bind_done(to);
        Ok(())
    }

    fn describe(&mut self, portal: bool, name: &[u8], to: &mut Vec<u8>) -> Result<(), Failed> {
        let found = if portal {
            self.portals.get(&key(name)).map(|portal| portal.0)
        } else {
            self.statements.get(&key(name)).copied()
        };
        self.refuse_failed(found.ok_or(Failed)?)?;
        if !portal {
            write::parameters(&[], to);
        }
        write::no_data(to);
        Ok(())
    }

    fn execute(&mut self, portal: &[u8], to: &mut Vec<u8>) -> Result<(), Failed> {
        let (text, over) = *self.portals.get(&key(portal)).ok_or(Failed)?;
        self.refuse_failed(text)?;
        if text.is_empty() {
            write::empty(to);
            return Ok(());
        }
        // What gives no rows runs once.
        if over && !text.starts_with("select") {
            return Err(Failed);
        }
        if let Some(portal) = self.portals.get_mut(&key(portal)) {
            portal.1 = true;
        }
        self.run(text, false, to)?;
        if text.starts_with("copy") {
            self.copying = Some(None);
        }
        Ok(())
    }

    fn run(&mut self, text: &'static str, simple: bool, to: &mut Vec<u8>) -> Result<(), Failed> {
        self.refuse_failed(text)?;
        let name = |text: &'static str| text.split(' ').nth(1).unwrap_or("").as_bytes().to_vec();
        match text.split(' ').next().unwrap_or("") {
            "select" => Self::row(text, to)?,
            "begin" => {
                self.tx = self.tx.or(Some(false));
                write::complete(b"BEGIN", to);
            }
            "commit" | "rollback" => {
                self.tx = None;
                self.portals.clear();
                write::complete(b"END", to);
            }
            "prepare" => {
                if self.statements.contains_key(&name(text)) {
                    return Err(Failed);
                }
                self.statements.insert(name(text), inner(text));
                write::complete(b"PREPARE", to);
            }
            "deallocate" if text == "deallocate all" => {
                self.statements.clear();
                write::complete(b"DEALLOCATE ALL", to);
            }
            "deallocate" => {
                self.statements.remove(&name(text)).ok_or(Failed)?;
                write::complete(b"DEALLOCATE", to);
            }
            "execute" => {
                let found = *self.statements.get(&name(text)).ok_or(Failed)?;
                if !found.starts_with("select") {
                    return Err(Failed);
                }
                Self::row(found, to)?;
            }
            "declare" => {
                if self.portals.contains_key(&b"c"[..]) || (self.tx.is_none() && simple) {
                    return Err(Failed);
                }
                self.portals.insert(b"c".to_vec(), (inner(text), false));
                write::complete(b"DECLARE CURSOR", to);
            }
            "fetch" => {
                let (found, _) = *self.portals.get(&b"c"[..]).ok_or(Failed)?;
                if !found.starts_with("select") {
                    return Err(Failed);
                }
                Self::row(found, to)?;
            }
            "close" => {
                self.portals.remove(&b"c"[..]).ok_or(Failed)?;
                write::complete(b"CLOSE CURSOR", to);
            }
            _ => to.extend_from_slice(b"G\0\0\0\x09\0\0\x01\0\0"),
        }
        Ok(())
    }

    /// The row says which statement it is of.
    fn row(text: &'static str, to: &mut Vec<u8>) -> Result<(), Failed> {
        if text.contains("nosuch") {
            return Err(Failed);
        }
        let mark = text.split('\'').nth(1).unwrap_or_default();
        write::data_row(&[Some(mark.as_bytes())], to);
        write::complete(b"SELECT 1", to);
        Ok(())
    }
}

/// One caller, the gateway, and the server.
struct Line {
    mode: u8,
    random: Random,
    worker: Worker<MemoryJournal>,
    session: Session,
    server: Server,
    out: Out,
    exchange: ExchangeId,
    generation: u64,
    from_caller: Vec<u8>,
    from_server: Vec<u8>,
    /// What went up and was not taken by the server so far, and all of it.
    to_server: Vec<u8>,
    went_up: Vec<u8>,
    heard: Vec<u8>,
    aborted: bool,
}

impl Line {
    fn new(mode: u8, mut random: Random) -> Self {
        let mut journal = MemoryJournal::new();
        if mode == b'f' {
            journal.set_room(Some(3_000 + random.below(12_000) as u64));
        }
        let kit = kit();
        let snapshot = Arc::new(snapshot(1));
        let worker = Worker::new(snapshot, Arc::clone(&kit.keys), journal, [1, 2, 3, 4]);
        let opened = Opened {
            listener: ListenerId(0),
            connection: ConnectionId(1),
            caller: ([192, 0, 2, 1], 9).into(),
            secure: false,
            principal: None,
            random: Some([7; weirgate::session::postgres::RANDOM_LEN]),
            cancels: None,
        };
        Self {
            mode,
            random,
            worker,
            session: Session::new(opened, token::now()),
            server: Server::default(),
            out: Out::new(),
            exchange: ExchangeId(0),
            generation: 1,
            from_caller: Vec::new(),
            from_server: Vec::new(),
            to_server: Vec::new(),
            went_up: Vec::new(),
            heard: Vec::new(),
            aborted: false,
        }
    }

    fn now() -> Now {
        token::now()
    }

    fn tell(&mut self, input: Input<'_>, source: &[u8]) -> usize {
        let used = self.session.handle(input, Self::now(), &mut self.worker, &mut self.out);
        while let Some(act) = self.out.next_act() {
            match act {
                Act::Connect { exchange, .. } => self.exchange = exchange,
                Act::AbortCaller => self.aborted = true,
                _ => {}
            }
        }
        let mut pieces = Pieces::new();
        self.out.swap_caller(&mut pieces);
        self.heard.extend(pieces.to_vec(source));
        pieces.clear();
        self.out.swap_upstream(&mut pieces);
        let up = pieces.to_vec(source);
        self.to_server.extend_from_slice(&up);
        self.went_up.extend(up);
        used
    }

    /// A caller that is let in. What was said for that is forgotten.
    fn login(&mut self) {
        write::startup(0, &[(b"user", b"x"), (b"database", b"db")], &mut self.from_caller);
        write::secret(kit().token.as_bytes(), &mut self.from_caller);
        let said = std::mem::take(&mut self.from_caller);
        let mut at = 0;
        while at < said.len() {
            let rest = said[at..].to_vec();
            let used = self.tell(Input::Caller(&rest), &rest);
            at += used;
            if used == 0 {
                return;
            }
        }
        let link = self.exchange;
        self.tell(Input::Connected(link, None), b"");
        let mut answer = Vec::new();
        write::auth_cleartext(&mut answer);
        let used = self.tell(Input::Upstream(link, &answer), &answer);
        assert!(used == answer.len() || self.session.is_closed());
        answer.clear();
        write::auth_ok(&mut answer);
        write::ready(TxStatus::Idle, &mut answer);
        self.tell(Input::Upstream(link, &answer), &answer);
        self.heard.clear();
        self.went_up.clear();
        self.to_server.clear();
        self.worker.journal.take();
    }

    /// Lets parts of what both sides sent pass. `false`: nothing is left that could.
    fn pass(&mut self) -> bool {
        let mut moved = false;
        if self.session.interest().caller && !self.from_caller.is_empty() {
            let len = 1 + self.random.below(self.from_caller.len());
            let part = self.from_caller[..len].to_vec();
            let used = self.tell(Input::Caller(&part), &part);
            self.from_caller.drain(..used);
            // More may be needed to go on.
            moved |= used > 0 || len < self.from_caller.len();
            if used == 0 && len < self.from_caller.len() {
                let all = self.from_caller.clone();
                let used = self.tell(Input::Caller(&all), &all);
                self.from_caller.drain(..used);
                moved = used > 0;
            }
        }
        let messages = 1 + self.random.below(3);
        for _ in 0..messages {
            let Some((message, _)) = split(&self.to_server) else { break };
            let message = message.to_vec();
            self.to_server.drain(..message.len());
            if self.mode != b'x' {
                self.server.take(&message, &mut self.from_server);
            }
            moved = true;
        }
        if self.session.interest().upstream && !self.from_server.is_empty() {
            let len = 1 + self.random.below(self.from_server.len());
            let all = self.from_server.clone();
            let link = self.exchange;
            let mut used = self.tell(Input::Upstream(link, &all[..len]), &all[..len]);
            if used == 0 {
                used = self.tell(Input::Upstream(link, &all), &all);
            }
            self.from_server.drain(..used);
            moved |= used > 0;
        }
        moved && !self.session.is_closed()
    }

    fn server_says(&mut self, tag: u8) {
        let to = &mut self.from_server;
        match tag {
            b'Z' => write::ready(TxStatus::Idle, to),
            b'T' => write::ready(TxStatus::Transaction, to),
            b'1' => write::parse_done(to),
            b'2' => write::bind_done(to),
            b'3' => write::close_done(to),
            b'D' => write::data_row(&[Some(b"row"), None], to),
            b'C' => write::complete(b"SELECT 1", to),
            b'I' => write::empty(to),
            b's' => write::suspended(to),
            b'n' => write::no_data(to),
            b'G' => to.extend_from_slice(b"G\0\0\0\x09\0\0\x01\0\0"),
            b'N' => write::notice("NOTICE", "00000", "hello", None, None, to),
            b'S' => write::status(b"TimeZone", b"UTC", to),
            b'p' => write::status(b"search_path", b"evil", to),
            b'K' => write::key(1, b"abcd", to),
            b'A' => write::notification(1, b"x", b"y", to),
            b'F' => write::error("FATAL", "57P01", "shut down", None, None, to),
            b'E' => write::error("ERROR", "42601", "failed", None, None, to),
            other => to.extend_from_slice(&[other, 0, 0, 0, other % 8]),
        }
    }

    fn reload(&mut self) {
        self.generation += 1;
        self.worker.reload(Arc::new(snapshot(self.generation)));
    }

    fn end(&mut self) {
        let link = self.exchange;
        if self.mode == b'x' {
            self.tell(Input::UpstreamEnd(link, Ending::Clean), b"");
        }
        self.tell(Input::CallerGone, b"");
        assert!(self.session.is_closed());
    }

    fn check(&self) {
        let entries = self.worker.journal.entries();
        let whole = |kind: Kind| -> Vec<u8> {
            let of = entries.iter().filter(|entry| entry.meta.kind == kind);
            of.flat_map(|entry| entry.body.clone()).collect()
        };
        // What would be read as a part of a message that was cut is recorded, and not told.
        let recorded = whole(Kind::ResponseBody);
        assert!(recorded.starts_with(&self.heard), "told and not recorded");
        assert!(recorded == self.heard || self.aborted, "recorded and not told");
        // Flush and Terminate are framing where they are the gateway's own.
        let without = |bytes: &[u8]| -> Vec<u8> {
            let (mut rest, mut kept) = (bytes, Vec::new());
            while let Some((message, tail)) = split(rest) {
                if !matches!(message[0], b'H' | b'X') {
                    kept.extend_from_slice(message);
                }
                rest = tail;
            }
            kept.extend_from_slice(rest);
            kept
        };
        let (recorded, sent) = (without(&whole(Kind::RequestBody)), without(&self.went_up));
        let differs = recorded.iter().zip(&sent).position(|(one, other)| one != other);
        assert!(differs.is_none() && recorded.len() >= sent.len(), "sent and not recorded");
        assert!(!has(&self.went_up, DENIED.as_bytes()), "a denied statement went up");
        for entry in entries {
            if !matches!(entry.meta.kind, Kind::ResponseBody) || self.mode != b'h' {
                continue;
            }
            let facts = entries.iter().filter(|one| {
                one.meta.exchange == entry.meta.exchange
                    && matches!(one.meta.kind, Kind::Open | Kind::Decision)
            });
            let facts: Vec<u8> = facts.flat_map(|one| one.body.clone()).collect();
            let by_name = has(&facts, b"execute") || has(&facts, b"fetch");
            for mark in ["r0", "r1", "p6", "p7", "c9", "m1", "m2"] {
                let seen = has(&entry.body, mark.as_bytes());
                let quoted = format!("'{mark}'");
                assert!(
                    !seen || by_name || has(&facts, quoted.as_bytes()),
                    "a row of {mark} is not under its statement"
                );
            }
        }
        // Where the journal is full, what ends may have no room.
        for entry in entries.iter().filter(|one| one.meta.kind == Kind::Open) {
            let closes = entries.iter().filter(|one| {
                one.meta.kind == Kind::Close && one.meta.exchange == entry.meta.exchange
            });
            assert!(self.mode == b'f' || closes.count() == 1, "one close for each open");
        }
    }
}

pub(super) struct Kit {
    pub(super) keys: Arc<KeySnapshot>,
    pub(super) token: String,
}

pub(super) fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let key = token::key();
        let token = key.mint(&DevClaims {
            issuer: token::ISSUER.to_owned(),
            subject: "ana".to_owned(),
            audience: vec!["weirgate".to_owned()],
            client_id: "fuzz".to_owned(),
            groups: Vec::new(),
            actors: Vec::new(),
            issued_s: token::NOW_S - 10,
            lifetime_s: 3_600,
        });
        Kit { keys: Arc::new(key.snapshot(1)), token }
    })
}

pub(super) fn snapshot(generation: u64) -> Snapshot {
    let allow = RuleSpec::new("allow", Effect::Allow);
    let mut deny = RuleSpec::new("deny", Effect::Deny);
    deny.what.statement = Some(vec![Pattern::new("ddl")]);
    let form = Form::Password {
        user: "app".to_owned(),
        secret: Secret::new(PASSWORD.to_vec()),
        role: None,
    };
    Snapshot {
        generation,
        on_full: weirgate::record::OnFull::Refuse,
        limits: Limits::default(),
        verifier: Verifier::new(vec![DevKey::rules("dev", token::ISSUER, "weirgate")]),
        policy: Table::compile(vec![allow, deny], 1, generation).expect("sound rules"),
        plans: Plans::new(Vec::new()).expect("no masks"),
        resources: vec![ResourceView {
            name: "db".to_owned(),
            protocol: Protocol::Postgres,
            database: "db".to_owned(),
            auth: AuthMethods::default().with(AuthMethod::Cleartext),
            shape: Shape::Plain,
            credential: CredentialId(0),
            base_path: String::new(),
            authority: "db.internal:5432".to_owned(),
            body_max: 0,
            sql_text_max: 64 << 10,
            message_max: 16 << 20,
            cookies: false,
        }],
        names: [].into(),
        databases: [("db".to_owned(), ResourceId(0))].into(),
        listeners: vec![ListenerView {
            name: "db".to_owned(),
            protocol: Protocol::Postgres,
            secure: false,
            oauth: false,
            resource: None,
            hosts: Vec::new(),
        }],
        public_url: None,
        credentials: vec![Credential::new("app".to_owned(), &form)],
    }
}
