//! What is asked of a person about a statement: who wants what, in words, and the digests that an
//! approval is bound by.
//!
//! The words are the statement's text in its masked form, as the record has it, behind lines that
//! say what else is done by it: the values that it runs with, and what a name in it stands for. All
//! of these lines are comments of SQL; the last one says that the text begins, and none before it
//! can be of the caller's making, for whatever is the caller's in them stands in quotes or indented.
//!
//! The digests are of all that the server sees: the texts without comments of attribution, every
//! value with its form, the settings that say how a date is read, the database, and as whom it is
//! done.

use super::Session;
use super::judge::{self, Analysis, Part};
use super::refuse::Denied;
use super::ruling::{BIND_AGAIN, Matter, NOT_KEPT, TOO_LONG};
use super::settings::SEARCH_PATH;
use super::values::{Values, is_hidden, quote};
use crate::base::{CredentialId, Secret};
use crate::credential::Credential;
use crate::mask::{Plan, clear_value};
use crate::policy::approval::{Ask, Claims, Originals, Party, SUMMARY_MAX, Scope, Statement};
use crate::policy::{Attr, Need};
use crate::record::Journal;
use crate::session::approving::{Fingerprint, binding};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql;
use std::fmt::Write as _;
use std::rc::Rc;

impl Session {
    /// What is asked.
    ///
    /// # Errors
    /// It cannot be asked: not all of it is known, or it is more than a person can be shown.
    pub(super) fn question<J: Journal>(
        &self,
        need: &Need,
        matter: &Matter<'_>,
        worker: &Worker<J>,
    ) -> Result<Ask, Denied> {
        let snapshot = &worker.snapshot;
        let plan = snapshot.plans.united(need.obligations().masks);
        let said = self.saying.reason();
        let reason_needed = || Denied::of(Refusal::ReasonRequired, "");
        let hold = need.hold(said.is_some()).ok_or_else(reason_needed)?;
        let nobody = || Denied::of(Refusal::Unauthenticated, "");
        let (principal, _) = self.who.as_ref().ok_or_else(nobody)?;
        let nothing = || Denied::of(Refusal::NoResource, "");
        let view = snapshot.resource(need.resource()).ok_or_else(nothing)?;
        let values = matter.values()?;
        let parts = self.parts(matter, values)?;
        let named = need.obligations().credential;
        let credential = snapshot.credential(named.unwrap_or(self.credential));
        let forms = self.forms(named);
        let digest = |whole: bool| {
            let mut made = Fingerprint::new("postgres", &view.name);
            made.part(view.authority.as_bytes());
            made.part(view.database.as_bytes());
            for text in [
                credential.map(Credential::name),
                credential.and_then(|one| one.user()),
                credential.and_then(|one| one.role()),
            ] {
                made.part(&[u8::from(text.is_some())]);
                made.part(text.unwrap_or_default().as_bytes());
            }
            for (name, value) in &forms {
                made.part(name.as_bytes());
                made.part(value);
            }
            digest_text(matter.analysis, whole, &mut made)?;
            for part in &parts {
                digest_text(&part.analysis, whole, &mut made)?;
                made.part(&part.place.to_le_bytes());
                for (number, oid) in &part.types {
                    made.part(&number.to_le_bytes());
                    made.part(&oid.to_le_bytes());
                }
                if let Some(values) = &part.values {
                    values.digest(whole, &mut made);
                }
            }
            Some(made.finish())
        };
        let fingerprint = digest(true).unwrap_or_default();
        let kept = match hold.scope() {
            Scope::Exact => fingerprint.to_vec(),
            // What has no shape is covered as it is.
            Scope::Shape => digest(false).unwrap_or(fingerprint).to_vec(),
            Scope::Session => self.opened.connection.0.to_le_bytes().to_vec(),
            Scope::Resource => Vec::new(),
        };
        let masked = !need.obligations().masks.is_empty();
        let shown = |masked: bool| {
            self.summary(matter, &parts, masked, (credential, &view.database), &forms)
        };
        let summary = shown(masked);
        if summary.len() > SUMMARY_MAX {
            return Err(Denied::of(Refusal::BodyTooLarge, TOO_LONG));
        }
        let terms = snapshot.policy.terms(hold);
        let original = (masked && !terms.reveal.is_empty()).then(|| shown(false));
        let original = original.filter(|original| *original != summary);
        let originals = Originals {
            summary: original.map(|original| Secret::new(original.into_bytes())),
            statement: if terms.estimate { matter.statement(&parts) } else { None },
        };
        Ok(Ask {
            who: Party::of(principal),
            resource: view.name.as_str().into(),
            protocol: "postgres".into(),
            rule: snapshot.policy.rule_name(hold.rule()).into(),
            credential: named.and(credential).map(|one| one.name().into()),
            generation: snapshot.generation,
            binding: binding("postgres", &view.name, hold.scope(), &kept),
            fingerprint,
            // A statement in other bytes is another one.
            retry: None,
            summary: summary.into(),
            terms,
            asserted: self.claims(&plan)?,
            reason: said.map(|reason| cleared(&plan, reason)).transpose()?,
            exchange: self.exchange().to_string().into(),
            originals,
        })
    }

    /// The settings by which literals of dates and times are read: of home as they are, of a session
    /// that a rule's own credential has as it is begun, where only home's can be set.
    fn forms(&self, named: Option<CredentialId>) -> Vec<(&'static str, Vec<u8>)> {
        let own = named.is_some_and(|named| named != self.credential);
        let chosen = |name: &str| {
            let mut all = self.settings.iter().rev();
            let found = all.find(|(one, _)| one.eq_ignore_ascii_case(name.as_bytes()));
            found.map(|(_, value)| value.clone())
        };
        let forms = self.sway_of_home().forms();
        let of = |(name, told): (&'static str, Option<&[u8]>)| {
            let value = if own { chosen(name) } else { told.map(Into::into) };
            value.map(|value| (name, value))
        };
        forms.filter_map(of).collect()
    }

    /// All statements that run, with their values.
    fn parts(&self, matter: &Matter<'_>, values: Option<Rc<Values>>) -> Result<Vec<Part>, Denied> {
        let names = self.names();
        let untold = || Denied::of(Refusal::Denied, "What it runs by a name cannot be told.");
        let range = matter.place.map_or(0..matter.analysis.statements.len(), |at| at..at + 1);
        let mut all = Vec::new();
        for place in range {
            let mut found = judge::parts(matter.analysis, place, &names).ok_or_else(untold)?;
            if found.iter().rev().skip(1).any(Part::is_untold) {
                return Err(Denied::hinted(NOT_KEPT, BIND_AGAIN));
            }
            // The statement itself stands behind what it runs.
            if let Some(own) = found.last_mut() {
                own.values = values.clone();
            }
            all.append(&mut found);
        }
        Ok(all)
    }

    fn summary(
        &self,
        matter: &Matter<'_>,
        parts: &[Part],
        masked: bool,
        (credential, database): (Option<&Credential>, &str),
        forms: &[(&str, Vec<u8>)],
    ) -> String {
        let mut text = String::new();
        let name = credential.map_or("", Credential::name);
        let _ = write!(text, "-- database {database}, credential {name}");
        if let Some(role) = credential.and_then(|one| one.role()) {
            let _ = write!(text, ", role {role}");
        }
        text.push('\n');
        for (name, value) in forms {
            let _ = write!(text, "-- {name} ");
            quote(&String::from_utf8_lossy(value), &mut text);
            text.push('\n');
        }
        for part in parts {
            let own = Rc::ptr_eq(&part.analysis, matter.analysis);
            if !own {
                text.push_str("-- it runs by a name:\n");
                for line in self.shown_text(&part.analysis, masked).lines() {
                    let _ = writeln!(text, "--     {line}");
                }
            }
            if let Some(values) = &part.values {
                let clear = |value: &[u8]| match masked {
                    true => self.recorded_value(&part.analysis, value),
                    false => value.to_vec(),
                };
                values.show(clear, &mut text);
            }
        }
        text.push_str("-- the statement:\n");
        text.push_str(&self.shown_text(matter.analysis, masked));
        text
    }

    /// A text in its masked form, with nothing in it that is not seen.
    fn shown_text(&self, analysis: &Analysis, masked: bool) -> String {
        let cleared = self.recorded_text(analysis, masked);
        let text =
            String::from_utf8_lossy(cleared.as_deref().unwrap_or(&analysis.text)).into_owned();
        let hidden = |one: char| is_hidden(one) && !matches!(one, '\n' | '\t');
        if !text.contains(hidden) {
            return text;
        }
        let mut shown = String::with_capacity(text.len());
        for one in text.chars() {
            if hidden(one) {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(one));
            } else {
                shown.push(one);
            }
        }
        shown
    }

    fn claims(&self, plan: &Plan) -> Result<Claims, Denied> {
        let said = self.saying.lend();
        let text = |attr: Attr<'_>| match attr {
            Attr::Value(text) => cleared(plan, text).map(Some),
            Attr::Absent | Attr::Unreadable => Ok(None),
        };
        Ok(Claims { node: text(said.node)?, run: text(said.run)?, thread: text(said.thread)? })
    }
}

impl Matter<'_> {
    /// The statement whose plan can be asked: one that reads or writes rows, by itself.
    fn statement(&self, parts: &[Part]) -> Option<Statement> {
        let [part] = parts else { return None };
        let is_plain = matches!(part.statement()?.act, sql::Act::None);
        let (types, formats, values) =
            part.values.as_ref().map(|values| values.raw()).unwrap_or_default();
        is_plain.then(|| Statement {
            text: Secret::new(self.analysis.text.to_vec()),
            types,
            formats,
            values,
            search_path: Some(SEARCH_PATH.into()),
        })
    }
}

/// Adds a text, or its shape; `None`: it has none.
fn digest_text(analysis: &Analysis, whole: bool, into: &mut Fingerprint) -> Option<()> {
    match whole {
        true => into.part(&analysis.text),
        false => into.part(&sql::shape(&analysis.text, &analysis.statements)?),
    }
    Some(())
}

/// A text of the caller in its masked form.
fn cleared(plan: &Plan, text: &[u8]) -> Result<Box<str>, Denied> {
    let mut masked = Vec::new();
    let blocked = |_| Denied::of(Refusal::Denied, "A mask blocks what it says of itself.");
    clear_value(plan, text, &mut masked).map_err(blocked)?;
    Ok(String::from_utf8_lossy(&masked).into())
}
