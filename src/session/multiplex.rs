//! Proof that the session contract carries a protocol with many exchanges on one connection.
//!
//! A toy protocol, for the test only: frames of one stream byte, one length byte and data. Every
//! stream is an exchange with its own caller, mask and upstream; they interleave at random.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::gate::{self, Subject, Wrap};
use super::io::{Act, Input, Out};
use super::kit::{self, Kit};
use super::worker::{Identified, Worker};
use crate::base::{ConnectionId, ExchangeId, Now, Pieces, ResourceId};
use crate::mask::{Content, Filter, Shape};
use crate::policy::{Action, Asserted, Attr, Decision, Grant};
use crate::record::{Journal, Kind};
use std::collections::BTreeMap;

struct Stream {
    id: ExchangeId,
    grant: Grant,
    _who: Identified,
    request: Filter,
    answer: Filter,
}

#[derive(Default)]
struct Multiplex {
    streams: BTreeMap<u8, Stream>,
    stage: Pieces,
}

impl Multiplex {
    fn subject(stream: &Stream) -> Subject {
        Subject {
            connection: ConnectionId(1),
            exchange: stream.id,
            level: stream.grant.record(),
            durable: stream.grant.durable(),
        }
    }

    fn open<J: Journal>(
        &mut self,
        stream: u8,
        token: &str,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let who =
            worker.identify(token.as_bytes(), core::net::Ipv4Addr::LOCALHOST.into(), now).unwrap();
        let action = Action {
            resource: ResourceId(0),
            method: b"CALL",
            path: b"/",
            model: Attr::Value(b"gpt-4"),
            sql: None,
            asserted: Asserted::NONE,
        };
        let snapshot = std::sync::Arc::clone(&worker.snapshot);
        let Decision::Permit(grant) = gate::decide(&snapshot.policy, &who.0, &who.1.row, &action)
        else {
            panic!("permitted by the kit's rules")
        };
        let plan = snapshot.plans.united(grant.masks());
        let filter = || {
            Filter::new(&plan, Content::of(b"text/plain", Shape::Plain), &snapshot.limits).unwrap()
        };
        let id = worker.next_exchange();
        let (request, answer) = (filter(), filter());
        out.act(Act::Connect {
            exchange: id,
            resource: ResourceId(0),
            credential: crate::base::CredentialId(0),
            generation: 1,
            fresh: false,
        });
        self.streams.insert(stream, Stream { id, grant, _who: who, request, answer });
    }

    fn handle<J: Journal>(
        &mut self,
        input: Input<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        match input {
            Input::Caller(bytes) => {
                let (stream, len) = (bytes[0], usize::from(bytes[1]));
                let data = &bytes[2..2 + len];
                let found = self.streams.get_mut(&stream).unwrap();
                let subject = Self::subject(found);
                self.stage.clear();
                let cleared = found.request.push(data, true, &mut self.stage).unwrap();
                let admission = gate::admit(
                    &found.grant,
                    subject,
                    Kind::RequestBody,
                    cleared,
                    data,
                    worker.books(),
                    now,
                )
                .unwrap();
                let mut pieces = Pieces::new();
                pieces.source(0..len);
                out.push_upstream(
                    admission.forward(&mut pieces, Wrap { offset: 2, ..Wrap::default() }),
                );
                2 + len
            }
            Input::Upstream(id, bytes) => {
                let (_, found) = self.streams.iter_mut().find(|(_, one)| one.id == id).unwrap();
                let subject = Self::subject(found);
                self.stage.clear();
                let cleared = found.answer.push(bytes, false, &mut self.stage).unwrap();
                let released = gate::release(
                    cleared,
                    subject,
                    Kind::ResponseBody,
                    bytes,
                    Wrap::default(),
                    worker.books(),
                    now,
                )
                .unwrap();
                out.push_caller(released);
                bytes.len()
            }
            Input::UpstreamEnd(id, _) => {
                let (_, found) = self.streams.iter_mut().find(|(_, one)| one.id == id).unwrap();
                let subject = Self::subject(found);
                self.stage.clear();
                let cleared = found.answer.push(b"", true, &mut self.stage).unwrap();
                let released = gate::release(
                    cleared,
                    subject,
                    Kind::ResponseBody,
                    b"",
                    Wrap::default(),
                    worker.books(),
                    now,
                )
                .unwrap();
                out.push_caller(released);
                0
            }
            _ => 0,
        }
    }
}

#[test]
fn a_hundred_interleaved_exchanges_never_mix() {
    let Kit { key, mut worker } = kit::kit();
    let kit_now = kit::at(0);
    let tokens: Vec<String> = {
        let kit = Kit { key, worker: kit::kit().worker };
        (0..100)
            .map(|n| {
                kit.token(&format!("user-{n}"), &[if n % 2 == 0 { "analysts" } else { "plain" }])
            })
            .collect()
    };
    let mut session = Multiplex::default();
    let mut out = Out::new();
    let mut ids = Vec::new();
    for (stream, token) in tokens.iter().enumerate() {
        session.open(u8::try_from(stream).unwrap(), token, kit_now, &mut worker, &mut out);
        let Some(Act::Connect { exchange, .. }) = out.next_act() else { panic!("a connect") };
        ids.push(exchange);
    }
    // Every answer names its stream and holds an address; they come a few bytes at a time.
    let answers: Vec<String> =
        (0..100).map(|n| format!("stream {n}: write to user{n}@corp.example.com today")).collect();
    let mut sent = vec![0usize; 100];
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); 100];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    while sent.iter().zip(&answers).any(|(sent, answer)| *sent < answer.len()) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let n = usize::try_from(seed % 100).unwrap();
        let text = answers[n].as_bytes();
        let end = (sent[n] + 1 + usize::try_from(seed >> 40).unwrap() % 7).min(text.len());
        if sent[n] == end {
            continue;
        }
        let bytes = &text[sent[n]..end];
        assert_eq!(
            session.handle(Input::Upstream(ids[n], bytes), kit_now, &mut worker, &mut out),
            bytes.len()
        );
        got[n].extend(out.caller().to_vec(bytes));
        out = Out::new();
        sent[n] = end;
    }
    for n in 0..100usize {
        let frame = [&[u8::try_from(n).unwrap(), 3][..], b"ask"].concat();
        assert_eq!(session.handle(Input::Caller(&frame), kit_now, &mut worker, &mut out), 5);
        assert_eq!(out.upstream().to_vec(&frame), b"ask");
        out = Out::new();
        session.handle(
            Input::UpstreamEnd(ids[n], super::io::Ending::Clean),
            kit_now,
            &mut worker,
            &mut out,
        );
        got[n].extend(out.caller().to_vec(b""));
        out = Out::new();
        let expected = if n % 2 == 0 {
            format!("stream {n}: write to [EMAIL] today")
        } else {
            answers[n].clone()
        };
        assert_eq!(String::from_utf8(got[n].clone()).unwrap(), expected);
        let recorded: Vec<u8> = worker
            .journal
            .entries()
            .iter()
            .filter(|entry| entry.meta.exchange == ids[n] && entry.meta.kind == Kind::ResponseBody)
            .flat_map(|entry| entry.body.clone())
            .collect();
        assert_eq!(String::from_utf8(recorded).unwrap(), expected);
    }
}
