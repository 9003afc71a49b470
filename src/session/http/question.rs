//! What is asked of a person: who wants what, in words, and the digests that an approval is bound by.
//!
//! The words are all that goes upstream, in its masked form: what cannot be shown is not held. The
//! digests are of the same bytes, less what differs between two tries of one request. What the
//! caller says of the wait itself, and which signs of life its client takes, is read here, too.

use super::Session;
use super::escape::clear_head;
use crate::base::Secret;
use crate::mask::{Content, Plan, Shape, clear_value};
use crate::policy::approval::{Ask, Claims, Originals, Party, REASON_MAX, SUMMARY_MAX, Scope};
use crate::policy::{Attr, Need};
use crate::record::Journal;
use crate::session::approving::{Fingerprint, binding};
use crate::session::json::{self, Form};
use crate::session::refusal::Refusal;
use crate::session::worker::{Snapshot, Worker};
use std::sync::Arc;

impl Session {
    /// The caller's own words on why it wants it.
    pub(super) fn reason(&self) -> Option<Vec<u8>> {
        let hold = self.hold.as_ref()?;
        let reason = self.head.single(hold.head(), b"x-weirgate-reason").ok()??;
        let fit = std::str::from_utf8(reason).is_ok_and(|text| !text.contains(char::is_control));
        let fit = fit && !reason.trim_ascii().is_empty() && reason.len() <= REASON_MAX;
        fit.then(|| reason.trim_ascii().to_vec())
    }

    /// `Prefer: wait=N` (RFC 7240, section 4.3), in milliseconds.
    pub(super) fn preferred_wait(&self) -> Option<u64> {
        let hold = self.hold.as_ref()?;
        let mut words = self.head.fields.iter().filter_map(|field| {
            let prefer = field.name(hold.head()).eq_ignore_ascii_case(b"prefer");
            let value = std::str::from_utf8(field.value(hold.head())).ok();
            value.filter(|_| prefer)
        });
        let wait = words.find_map(|value| {
            value.split([',', ';']).find_map(|word| {
                let (name, seconds) = word.trim().split_once('=')?;
                let wait = name.trim().eq_ignore_ascii_case("wait");
                wait.then(|| seconds.trim().trim_matches('"').parse::<u64>().ok()).flatten()
            })
        });
        wait.map(|seconds| seconds.saturating_mul(1_000))
    }

    /// What the caller's client takes for a sign of life (facts: measured for each); nothing where
    /// that is not known.
    pub(super) fn heartbeat(&self) -> Option<&'static [u8]> {
        let (hold, exchange) = (self.hold.as_ref()?, self.exchange.as_ref()?);
        if exchange.version_minor == 0 {
            return None;
        }
        let agent = self
            .head
            .fields
            .iter()
            .find(|field| field.name(hold.head()).eq_ignore_ascii_case(b"user-agent"))?;
        heartbeat_of(agent.value(hold.head()))
    }

    /// What is asked: who wants what, in the words that a person sees.
    pub(super) fn question<J: Journal>(
        &mut self,
        need: &Need,
        snapshot: &Arc<Snapshot>,
        worker: &mut Worker<J>,
    ) -> Result<Ask, Refusal> {
        let reason = self.reason();
        let hold = need.hold(reason.is_some()).ok_or(Refusal::ReasonRequired)?;
        let plan = snapshot.plans.united(need.obligations().masks);
        let summary = self.summary(&plan, snapshot, worker)?;
        let terms = snapshot.policy.terms(hold);
        let original = if terms.reveal.is_empty() { None } else { self.original(&plan, &summary) };
        let exchange = self.exchange.as_ref().ok_or(Refusal::BadRequest)?;
        let (principal, _) = exchange.who.as_ref().ok_or(Refusal::Unauthenticated)?;
        let view = snapshot.resource(need.resource()).ok_or(Refusal::NoResource)?;
        let body = self.body_form(view.shape)?;
        let Digests { fingerprint, head, retry } = self.digests(&view.name, body.as_deref());
        let kept = match hold.scope() {
            Scope::Exact => fingerprint.to_vec(),
            Scope::Shape => match (json::shape(&self.held), head) {
                (Some(shape), Some(head)) => [&head[..], &shape].concat(),
                (None, Some(head)) if self.held.is_empty() => head.to_vec(),
                // What has no shape is covered as it is.
                _ => fingerprint.to_vec(),
            },
            Scope::Session => self.connection.0.to_le_bytes().to_vec(),
            Scope::Resource => Vec::new(),
        };
        let credential = need.obligations().credential.and_then(|id| snapshot.credential(id));
        Ok(Ask {
            who: Party::of(principal),
            resource: view.name.as_str().into(),
            protocol: "http".into(),
            rule: snapshot.policy.rule_name(hold.rule()).into(),
            credential: credential.map(|one| one.name().into()),
            generation: snapshot.generation,
            binding: binding("http", &view.name, hold.scope(), &kept),
            fingerprint,
            retry: retry.filter(|_| hold.scope() == Scope::Exact),
            summary,
            terms,
            asserted: self.claims(&plan)?,
            reason: reason.map(|reason| cleared(&plan, &reason)).transpose()?,
            exchange: exchange.id.to_string().into(),
            originals: Originals { summary: original, statement: None },
        })
    }

    fn claims(&self, plan: &Plan) -> Result<Claims, Refusal> {
        let said = self.asserted.lend();
        let text = |attr: Attr<'_>| match attr {
            Attr::Value(text) => cleared(plan, text).map(Some),
            Attr::Absent | Attr::Unreadable => Ok(None),
        };
        Ok(Claims { node: text(said.node)?, run: text(said.run)?, thread: text(said.thread)? })
    }

    /// The canonical form of a body of JSON, where it has one.
    fn body_form(&self, shape: Shape) -> Result<Option<Vec<u8>>, Refusal> {
        if Content::of(&self.content_type, shape) != Content::Json {
            return Ok(None);
        }
        match json::canonical(&self.held) {
            Form::Canonical(form) => Ok(Some(form)),
            // What a person approves of must not be read in two ways.
            Form::Twice => Err(Refusal::AmbiguousBody),
            Form::Opaque => Ok(None),
        }
    }

    /// The digests of the operation; `form` is the canonical form of its body.
    fn digests(&self, resource: &str, form: Option<&[u8]>) -> Digests {
        let [mut whole, mut head, mut retry] =
            std::array::from_fn(|_| Fingerprint::new("http", resource));
        retry.part(b"retry");
        let mut lines = self.head_out.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let (target, query, is_plain) = target_of(lines.next().unwrap_or_default());
        for digest in [&mut whole, &mut head, &mut retry] {
            digest.part(target);
        }
        for pair in &query {
            whole.part(pair);
            retry.part(pair);
            head.part(pair.split(|byte| *byte == b'=').next().unwrap_or_default());
        }
        for digest in [&mut whole, &mut head, &mut retry] {
            digest.part(b"fields");
        }
        let ranges = self.range_out.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = lines
            .chain(ranges)
            .filter_map(|line| {
                let colon = memchr::memchr(b':', line)?;
                let (name, value) = line.split_at_checked(colon)?;
                Some((name.to_ascii_lowercase(), value))
            })
            .filter_map(|(name, value)| lasting(name, value))
            .collect();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, value) in &fields {
            whole.part(name);
            whole.part(value);
            // The length is one of the literals.
            if name != b"content-length" {
                for digest in [&mut head, &mut retry] {
                    digest.part(name);
                    digest.part(value);
                }
            }
        }
        whole.part(b"body");
        whole.part(&self.held);
        retry.part(b"body");
        retry.part(form.unwrap_or_default());
        Digests {
            fingerprint: whole.finish(),
            head: is_plain.then(|| head.finish()),
            retry: form.map(|_| retry.finish()),
        }
    }

    /// The request in its masked form, as far as it has room.
    fn summary<J: Journal>(
        &mut self,
        plan: &Arc<Plan>,
        snapshot: &Snapshot,
        worker: &mut Worker<J>,
    ) -> Result<Box<str>, Refusal> {
        let mut text = Vec::new();
        clear_head(plan, &self.head_out, &mut text).map_err(|_| Refusal::Denied)?;
        let mut text = shown_head(&text);
        if plan.is_pass() {
            text.extend(shown_head(&self.range_out));
        }
        if !self.held.is_empty() {
            text.extend_from_slice(b"\n");
            let shape = self.resource().and_then(|id| snapshot.resource(id));
            let shape = shape.map_or(Shape::Plain, |view| view.shape);
            let content = Content::of(&self.content_type, shape);
            let filter = worker.take_filter(plan, content, &snapshot.limits);
            let mut filter = filter.map_err(|_| Refusal::UnsupportedBody)?;
            self.stage.clear();
            let masked = filter.push(&self.held, true, &mut self.stage);
            let masked = masked.map_err(|_| Refusal::UnsupportedBody)?;
            let body = masked.into_pieces().to_vec(&self.held);
            worker.give_filter(Some(filter));
            match std::str::from_utf8(&body) {
                Ok(_) => text.extend_from_slice(&body),
                Err(_) => text.extend(no_text(&self.held).into_bytes()),
            }
        }
        // What a person cannot be shown, a person cannot approve of.
        let fits = text.len() <= SUMMARY_MAX;
        let text = fits.then(|| String::from_utf8_lossy(&text).into());
        text.ok_or(Refusal::BodyTooLarge)
    }

    /// The same with nothing masked, where that is another text.
    fn original(&self, plan: &Plan, summary: &str) -> Option<Secret> {
        if plan.is_pass() {
            return None;
        }
        let mut text = shown_head(&self.head_out);
        text.extend(shown_head(&self.range_out));
        if !self.held.is_empty() {
            text.push(b'\n');
            match std::str::from_utf8(&self.held) {
                Ok(_) => text.extend_from_slice(&self.held),
                Err(_) => text.extend(no_text(&self.held).into_bytes()),
            }
        }
        (text != summary.as_bytes()).then(|| Secret::new(text))
    }
}

/// Digests of one operation.
struct Digests {
    /// Of all of it.
    fingerprint: [u8; 32],
    /// Of its head with the values of the query left out, where it is certain which those are.
    head: Option<[u8; 32]>,
    /// Of all with the canonical form of the body, by which a retry is known.
    retry: Option<[u8; 32]>,
}

/// A text of the caller in its masked form.
fn cleared(plan: &Plan, text: &[u8]) -> Result<Box<str>, Refusal> {
    let mut masked = Vec::new();
    clear_value(plan, text, &mut masked).map_err(|_| Refusal::Denied)?;
    Ok(String::from_utf8_lossy(&masked).into())
}

/// The head as a person is shown it, one line for each field: all that goes upstream, less what the
/// gateway writes there by itself.
fn shown_head(head: &[u8]) -> Vec<u8> {
    let own: [&[u8]; 4] =
        [b"host:", b"accept-encoding:", b"content-length:", b"transfer-encoding:"];
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let lines = lines.filter(|line| {
        let is =
            |name: &&[u8]| line.get(..name.len()).is_some_and(|s| s.eq_ignore_ascii_case(name));
        !line.is_empty() && !own.iter().any(is)
    });
    let mut shown = Vec::with_capacity(head.len());
    for line in lines {
        shown.extend_from_slice(line.strip_suffix(b" HTTP/1.1").unwrap_or(line));
        shown.push(b'\n');
    }
    shown
}

/// What stands for a body that is no text.
fn no_text(body: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[{} bytes that are no text, SHA-256 {hex}]", body.len())
}

/// Method and path of a request line, and the pairs of its query. Where all names are plain and
/// differ, whatever reads them, the pairs are in the order of their names, and the last says so.
fn target_of(line: &[u8]) -> (&[u8], Vec<&[u8]>, bool) {
    let line = line.strip_suffix(b" HTTP/1.1").unwrap_or(line);
    let mark = memchr::memchr(b'?', line).unwrap_or(line.len());
    let (target, query) = line.split_at_checked(mark).unwrap_or((line, b""));
    let query = query.strip_prefix(b"?").unwrap_or_default();
    let mut pairs: Vec<&[u8]> =
        query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).collect();
    let name = |pair: &&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        // Some servers take these for one another.
        let mut name = name.to_ascii_lowercase();
        name.iter_mut().filter(|byte| matches!(byte, b'.' | b'-')).for_each(|byte| *byte = b'_');
        name
    };
    let mut names: Vec<Vec<u8>> = pairs.iter().map(name).collect();
    names.sort();
    let word = |name: &Vec<u8>| name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let differ = names.windows(2).all(|pair| pair.first() != pair.last());
    let is_plain = differ && names.iter().all(word) && !query.contains(&b';');
    if is_plain {
        pairs.sort_by_key(name);
    }
    (target, pairs, is_plain)
}

/// A field as far as it says what is done: nothing of those that differ between two tries of one
/// request, and of `prefer` what is not about the wait.
fn lasting(name: Vec<u8>, value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let fixed: [&[u8]; 7] = [
        b"user-agent",
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"x-request-id",
        b"x-client-request-id",
        b"date",
    ];
    if fixed.contains(&name.as_slice()) || name.starts_with(b"x-stainless-") {
        return None;
    }
    if name != b"prefer" {
        return Some((name, value.to_vec()));
    }
    let words = value.strip_prefix(b":").unwrap_or(value).split(|byte| *byte == b',');
    let is_wait = |word: &&[u8]| {
        let name = word.split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"wait") && !word.contains(&b';')
    };
    let kept: Vec<&[u8]> = words.map(<[u8]>::trim_ascii).filter(|word| !is_wait(word)).collect();
    let kept = kept.join(&b","[..]);
    (!kept.is_empty()).then_some((name, kept))
}

fn heartbeat_of(agent: &[u8]) -> Option<&'static [u8]> {
    let agent = agent.to_ascii_lowercase();
    let names = |list: &[&[u8]]| list.iter().any(|name| agent.starts_with(name));
    if names(&[b"python-requests/"]) {
        // It takes any other interim answer for the final one.
        return Some(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let takes: [&[u8]; 12] = [
        b"python-httpx",
        b"openai/",
        b"asyncopenai/",
        b"azureopenai/",
        b"asyncazureopenai/",
        b"anthropic/",
        b"asyncanthropic/",
        b"python/",
        b"curl/",
        b"undici",
        b"node",
        b"langchain",
    ];
    names(&takes).then_some(b"HTTP/1.1 102 Processing\r\n\r\n")
}
