//! Sign-in of browsers: by a one-time link, which the command line prints for whoever has a token,
//! or at the issuer ([`oidc`]).
//!
//! What comes of it is a session: a cookie in place of the token, for the same person with the
//! same rights. A cookie goes along with what other pages make a browser ask, a token does not;
//! so whatever is not a `GET` needs the session's CSRF value in a header of its own as well, and
//! [`Site`] refuses what comes from another page.
//!
//! Every sign-in, refused or not, and every sign-out is logged with who it was, and counted.

pub(super) mod cookie;
mod links;
pub(super) mod oidc;
mod page;
mod routes;
mod secret;
mod sessions;

#[cfg(test)]
pub(super) mod kit;
#[cfg(test)]
pub(super) mod tests;

pub(super) use routes::{forget, guarded, open};
pub(super) use sessions::Found;

use super::site::Site;
use super::{Admin, Person};
use crate::base::{Pace, Secret};
use crate::control::metrics::Text;
use crate::control::notify::Budget;
use crate::policy::approval::Party;
use crate::runtime;
use axum::http::{HeaderMap, HeaderValue};
use cookie::Cookie;
use links::Links;
use sessions::{BeginFault, Sessions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who is signed in, and who is about to be.
#[derive(Debug, Default)]
pub struct SignIn {
    /// At the issuer, where there is a way to it.
    pub(super) oidc: Option<oidc::Oidc>,
    sessions: Sessions,
    links: Links,
    counts: [AtomicU64; Outcome::ALL.len()],
    /// Lines of the log about refused ones.
    refusals: Budget,
}

/// What kind of token a session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that a caller could show, too.
    Bearer,
    /// An ID token of the gateway's own client.
    Id,
}

/// How a sign-in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A session was begun.
    SignedIn,
    /// The link is not known: used, over, or never made.
    LinkOver,
    /// The token does not count any more.
    TokenOver,
    /// The page that asks is another's, or the name that it asks under.
    Foreign,
    /// The issuer's answer is to no question of this browser that is open.
    StateOver,
    /// The answer is another issuer's, another person's, or to another question.
    Mixed,
    /// The issuer says no.
    Denied,
    /// The issuer does not answer as it should.
    Unreachable,
    /// There is no room for a session, or no random number.
    Unavailable,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::SignedIn,
        Self::LinkOver,
        Self::TokenOver,
        Self::Foreign,
        Self::StateOver,
        Self::Mixed,
        Self::Denied,
        Self::Unreachable,
        Self::Unavailable,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::SignedIn => "signed-in",
            Self::LinkOver => "link-over",
            Self::TokenOver => "token-over",
            Self::Foreign => "foreign",
            Self::StateOver => "state-over",
            Self::Mixed => "mixed-up",
            Self::Denied => "denied",
            Self::Unreachable => "issuer-unreachable",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By a one-time link.
    Link,
    /// At the issuer.
    Oidc,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Oidc => "oidc",
        }
    }
}

impl SignIn {
    /// Nobody yet; by links, and as `oidc` has it.
    #[must_use]
    pub fn new(oidc: Option<oidc::Oidc>) -> Self {
        Self { oidc, ..Self::default() }
    }

    /// The session of a cookie's value. `used` is whether a person does something with it.
    pub(super) fn find(&self, id: &str, used: bool) -> Option<Found> {
        self.sessions.find(id, used, runtime::now())
    }

    /// Whether it has not ended.
    pub(super) fn holds(&self, session: &Found) -> bool {
        self.sessions.holds(&session.key, runtime::now())
    }

    /// Ends a session whose token does not count any more.
    pub(super) fn end(&self, session: &Found, why: &'static str) {
        if let Some((iss, sub)) = self.sessions.end(&session.key) {
            tracing::info!(%iss, %sub, why, "a browser session ended");
        }
    }

    /// Ends all sessions and links of a person: a browser was lost.
    fn end_all_of(&self, party: &Party) {
        let (iss, sub) = (&party.iss, &party.sub);
        self.links.drop_all_of(iss, sub);
        let count = self.sessions.end_all_of(iss, sub);
        tracing::info!(%iss, %sub, count, why = "signed out", "all browser sessions ended");
    }

    /// Logs and counts how a sign-in ended.
    pub(super) fn tell(&self, way: Way, outcome: Outcome, who: Option<&Party>) {
        let place = Outcome::ALL.iter().position(|one| *one == outcome).unwrap_or_default();
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (way, outcome_text) = (way.label(), outcome.label());
        let iss = who.map(|party| &*party.iss);
        let sub = who.map(|party| &*party.sub);
        match outcome {
            Outcome::SignedIn => tracing::info!(iss, sub, way, "a person signed in"),
            // Anybody may be refused, as often as it likes: it is counted, and logged now and then.
            _ if self.refusals.take(REFUSALS, runtime::now().mono_ns).is_ok() => {
                tracing::warn!(iss, sub, way, refused = outcome_text, "a sign-in was refused");
            }
            _ => {}
        }
    }

    pub(super) fn metrics(&self, text: &mut Text) {
        let name = "weirgate_sign_ins_total";
        text.family(name, "counter", "Sign-ins of browsers by how they ended.");
        for (outcome, count) in Outcome::ALL.iter().zip(&self.counts) {
            let labels = [("outcome", outcome.label())];
            text.sample(name, &labels, count.load(Ordering::Relaxed));
        }
        let help = "Browser sessions that have not ended.";
        text.single(
            "weirgate_browser_sessions",
            "gauge",
            help,
            self.sessions.count(runtime::now()),
        );
    }
}

/// Begins a session for whom `token` names, if it counts at this moment, and ends the one that the
/// browser had: nobody goes on under an id that was there before.
///
/// `wanted` is who it must be.
///
/// # Errors
/// How the sign-in ended instead. It is told already.
async fn enter(
    admin: &Admin,
    headers: &HeaderMap,
    way: Way,
    (token, kind): (Arc<Secret>, Kind),
    wanted: &Party,
) -> Result<HeaderValue, Outcome> {
    let (sign_in, site) = (&admin.sign_in, (admin.site)());
    let Some(person) = admin.person(kind, token.expose()).await else {
        sign_in.tell(way, Outcome::TokenOver, Some(wanted));
        return Err(Outcome::TokenOver);
    };
    if (&person.party.iss, &person.party.sub) != (&wanted.iss, &wanted.sub) {
        sign_in.tell(way, Outcome::Mixed, Some(wanted));
        return Err(Outcome::Mixed);
    }
    let begun = begin(sign_in, &site, headers, (token, kind), &person);
    let outcome = begun.as_ref().err().copied().unwrap_or(Outcome::SignedIn);
    sign_in.tell(way, outcome, Some(&person.party));
    begun
}

fn begin(
    sign_in: &SignIn,
    site: &Site,
    headers: &HeaderMap,
    token: (Arc<Secret>, Kind),
    person: &Person,
) -> Result<HeaderValue, Outcome> {
    let (now, name) = (runtime::now(), site.cookie());
    let begun = sign_in.sessions.begin(token, person, now).map_err(|fault| match fault {
        BeginFault::Expired => Outcome::TokenOver,
        BeginFault::Full | BeginFault::NoRandom => Outcome::Unavailable,
    })?;
    if let Cookie::One(old) = cookie::read(headers, name)
        && let Some(old) = sign_in.sessions.find(old, false, now)
    {
        sign_in.end(&old, "replaced");
    }
    let seconds = begun.until_s.saturating_sub(now.wall_s());
    cookie::set(site, name, &begun.id, seconds).ok_or(Outcome::Unavailable)
}

/// Refused sign-ins that are logged; all are counted.
const REFUSALS: Pace = Pace { per_s: 10, burst: 20 };
