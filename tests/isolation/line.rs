//! One caller's connection, with both of its buffers and what it left behind.

use super::Shared;
use super::kit::{ID_HIGH, at};
use super::script::{Case, Step};
use std::fmt::Write as _;
use weirgate::base::{ConnectionId, CredentialId, ExchangeId, ListenerId, Pieces};
use weirgate::session::http::Session;
use weirgate::session::{Act, Ending, Input, UpstreamFault};

/// What went up on one upstream connection for one exchange.
pub(crate) struct Sent {
    pub(crate) credential: CredentialId,
    pub(crate) bytes: Vec<u8>,
    reused: Option<bool>,
}

impl Sent {
    pub(crate) fn text(&self) -> String {
        format!("{:?} {}", self.reused, String::from_utf8_lossy(&self.bytes))
    }
}

pub(crate) struct Line {
    pub(crate) caller: usize,
    pub(crate) connection: ConnectionId,
    pub(crate) to_caller: Vec<u8>,
    pub(crate) sent: Vec<Sent>,
    session: Session,
    /// All that the caller will ask, and how much of it came.
    script: Vec<u8>,
    asked: usize,
    input: Vec<u8>,
    answers: Vec<Vec<u8>>,
    told: usize,
    heard: Vec<u8>,
    connected: Option<ExchangeId>,
    log: String,
}

impl Line {
    /// The address of a caller, one for each.
    pub(crate) fn peer(caller: usize) -> String {
        format!("192.0.2.{}:40000", caller + 1)
    }

    pub(crate) fn new(place: usize, case: &Case, tokens: &[String]) -> Self {
        let spec = &case.lines[place];
        let caller = usize::from(spec.caller);
        let connection = ConnectionId(100 + place as u64);
        let asks = spec.asks.iter().enumerate();
        let tells = spec.tells.iter().enumerate();
        let peer = Self::peer(caller).parse().unwrap();
        Self {
            caller,
            connection,
            to_caller: Vec::new(),
            sent: Vec::new(),
            session: Session::new(ListenerId(0), connection, peer, None, at(0)),
            script: asks.flat_map(|(n, ask)| ask.bytes(caller, &tokens[caller], n)).collect(),
            asked: 0,
            input: Vec::new(),
            answers: tells.map(|(n, tell)| tell.bytes(caller, n)).collect(),
            told: 0,
            heard: Vec::new(),
            connected: None,
            log: String::new(),
        }
    }

    /// All that the caller saw, without ids that differ from run to run.
    pub(crate) fn text(&self) -> String {
        let bytes = hide_ids(&self.to_caller);
        format!("{}{}", String::from_utf8_lossy(&bytes), self.log)
    }

    pub(crate) fn step(&mut self, step: &Step, shared: &mut Shared) {
        match step {
            Step::Ask(len) => self.ask(usize::from(*len), shared),
            Step::Tell(len) => self.tell(usize::from(*len), shared),
            Step::Gone => self.event(Input::CallerGone, shared),
            Step::End { clean } => {
                let ending = if *clean { Ending::Clean } else { Ending::Cut };
                self.over(|id| Input::UpstreamEnd(id, ending), shared);
            }
            Step::NoConnection => {
                self.over(|id| Input::ConnectFailed(id, UpstreamFault::Refused), shared);
            }
        }
        self.pump(shared);
    }

    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        if self.session.deadline(&shared.worker).is_some_and(|due| due <= at(shared.ms).mono_ns) {
            self.event(Input::Timer, shared);
        }
    }

    /// Asks and hears the rest, then leaves.
    pub(crate) fn finish(&mut self, shared: &mut Shared) {
        while !self.session.is_closed() {
            let before = (self.asked, self.told, self.sent.len(), self.to_caller.len());
            self.ask(usize::MAX, shared);
            self.tell(usize::MAX, shared);
            self.pump(shared);
            if before == (self.asked, self.told, self.sent.len(), self.to_caller.len()) {
                if self.connected.is_none() {
                    break;
                }
                self.over(|id| Input::UpstreamEnd(id, Ending::Clean), shared);
            }
        }
        self.event(Input::CallerGone, shared);
        assert!(self.session.is_closed());
    }

    fn ask(&mut self, len: usize, shared: &mut Shared) {
        let end = self.asked.saturating_add(len).min(self.script.len());
        self.input.extend_from_slice(&self.script[self.asked..end]);
        self.asked = end;
        self.pump(shared);
    }

    /// Each upstream connection hears one answer.
    fn tell(&mut self, len: usize, shared: &mut Shared) {
        if self.connected.is_none() {
            return;
        }
        let answer = &self.answers[(self.sent.len() - 1) % self.answers.len()];
        let end = self.told.saturating_add(len).min(answer.len());
        self.heard.extend_from_slice(&answer[self.told..end]);
        self.told = end;
        self.pump(shared);
    }

    fn over<'a>(&mut self, input: impl FnOnce(ExchangeId) -> Input<'a>, shared: &mut Shared) {
        if let Some(id) = self.connected.take() {
            self.heard.clear();
            self.told = 0;
            self.event(input(id), shared);
        }
    }

    /// Shows both sides' bytes as long as they are wanted and something happens.
    fn pump(&mut self, shared: &mut Shared) {
        loop {
            let before = (self.input.len(), self.heard.len(), self.session.interest());
            if before.2.caller && !self.input.is_empty() {
                let bytes = std::mem::take(&mut self.input);
                let used = self.handle(Input::Caller(&bytes), &bytes, false, shared);
                self.input = bytes[used..].to_vec();
            }
            if let Some(id) = self.connected
                && self.session.interest().upstream
                && !self.heard.is_empty()
            {
                let bytes = std::mem::take(&mut self.heard);
                let used = self.handle(Input::Upstream(id, &bytes), &bytes, true, shared);
                if self.connected == Some(id) {
                    self.heard = bytes[used..].to_vec();
                }
            }
            if before == (self.input.len(), self.heard.len(), self.session.interest()) {
                return;
            }
        }
    }

    fn event(&mut self, input: Input<'_>, shared: &mut Shared) {
        self.handle(input, b"", false, shared);
    }

    fn handle(
        &mut self,
        input: Input<'_>,
        bytes: &[u8],
        of_upstream: bool,
        shared: &mut Shared,
    ) -> usize {
        let Shared { worker, out, spare, ms } = shared;
        let whole = of_upstream && self.has_told_all();
        let used = self.session.handle(input, at(*ms), worker, out);
        let (down, up) = if of_upstream { (bytes, &b""[..]) } else { (&b""[..], bytes) };
        let to_upstream = out.upstream().to_vec(up);
        self.to_caller.extend(out.caller().to_vec(down));
        // Bytes of an exchange that begins here belong to the connection that it asks for.
        while let Some(act) = out.next_act() {
            match act {
                Act::Connect { exchange, credential, .. } => {
                    assert!(self.connected.is_none(), "one upstream at a time");
                    self.connected = Some(exchange);
                    (self.told, self.heard) = (0, Vec::new());
                    let bytes = Vec::new();
                    self.sent.push(Sent { credential, bytes, reused: None });
                }
                Act::Release { exchange, reuse } => {
                    if self.connected == Some(exchange) {
                        assert!(!reuse || (whole && used == bytes.len()), "reused with a rest");
                        self.connected = None;
                        self.told = 0;
                        self.heard.clear();
                    } else {
                        assert!(!reuse, "reused after its end");
                    }
                    if let Some(sent) = self.sent.last_mut() {
                        sent.reused = Some(reuse);
                    }
                }
                act => writeln!(self.log, "{act:?}").unwrap(),
            }
        }
        if !to_upstream.is_empty() {
            assert!(self.connected.is_some(), "bytes for an upstream without one");
            self.sent.last_mut().unwrap().bytes.extend_from_slice(&to_upstream);
        }
        // The same `Out` serves all lines: what one leaves in it would come out at another.
        out.swap_caller(&mut spare[0]);
        out.swap_upstream(&mut spare[1]);
        spare.iter_mut().for_each(Pieces::clear);
        assert!(out.is_empty());
        used
    }

    fn has_told_all(&self) -> bool {
        let answer = self.sent.len().checked_sub(1).map(|n| &self.answers[n % self.answers.len()]);
        answer.is_some_and(|answer| answer.len() == self.told)
    }
}

/// `bytes` with each exchange id blanked.
pub(crate) fn hide_ids(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let lead = format!("{ID_HIGH:016x}");
    let mut from = 0;
    while let Some(found) = memchr::memmem::find(&bytes[from..], lead.as_bytes()) {
        let end = (from + found + 32).min(bytes.len());
        bytes[from + found..end].fill(b'_');
        from = end;
    }
    bytes
}
