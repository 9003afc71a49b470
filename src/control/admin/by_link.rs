//! A vote that comes by a signed link: the link is checked beside the person's own login, never in
//! its place, and counts once.

use super::{Admin, problem};
use crate::control::notify::{Link, LinkError, to_its_end};
use crate::policy::approval::{ActFault, ApprovalId, Ballot, Party, Request};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

/// Why a vote by a link is not taken.
pub(super) enum Refusal {
    Link(LinkError),
    Vote(ActFault),
}

/// Casts the vote, and uses the link up: before the vote, so that none counts twice, whatever
/// happens between. A vote that is refused gives the link back.
pub(super) async fn vote(
    admin: Arc<Admin>,
    id: ApprovalId,
    person: Party,
    ballot: Ballot,
    query: &str,
) -> Result<Request, Refusal> {
    let link = Link::parse(query).ok_or(Refusal::Link(LinkError::Tampered))?;
    let voted = to_its_end(cast(admin, id, person, ballot, link)).await;
    voted.unwrap_or(Err(Refusal::Vote(ActFault::Unavailable)))
}

async fn cast(
    admin: Arc<Admin>,
    id: ApprovalId,
    person: Party,
    ballot: Ballot,
    link: Link,
) -> Result<Request, Refusal> {
    let request = admin.desk.show(id).await.map_err(Refusal::Vote)?;
    let notifier = &admin.notifier;
    notifier.check_link(&link, &request, ballot.approve).map_err(Refusal::Link)?;
    let what = format!("link:{}", link.nonce());
    notifier.use_up(&what, link.expiry_s()).await.map_err(Refusal::Link)?;
    let via = Some(format!("link:{}", link.hook).into());
    let voted = admin.desk.vote(id, person, Ballot { via, ..ballot }).await;
    if voted.is_err() {
        notifier.free(&what).await;
    }
    voted.map_err(Refusal::Vote)
}

pub(super) fn refused(error: LinkError) -> Response {
    let (status, detail) = match error {
        LinkError::Tampered => {
            (StatusCode::FORBIDDEN, "The link was changed, or is for something else.")
        }
        LinkError::Expired => (StatusCode::FORBIDDEN, "The time of the link is over."),
        LinkError::Used => (StatusCode::CONFLICT, "A vote has come by this link already."),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The use of a link cannot be noted at the moment; try again.",
        ),
    };
    problem(status, error.label(), detail)
}
