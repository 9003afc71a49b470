//! Acts that concern the whole process, and small ones that several commands share.

use super::{policy, sessions};
use crate::runtime;

/// Fills a question to the policy with who and what of a recorded request.
///
/// # Errors
/// Why the request cannot be found.
pub(super) fn ask_of_record(id: &str, question: &mut policy::Explain) -> Result<(), String> {
    let config = crate::config::load(&question.config, &super::source::System)
        .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect::<String>())?;
    let (rows, _) = sessions::rows(&config.gateway.data_dir, &sessions::Filter::default())?;
    let wanted = crate::base::ExchangeId::parse(id).ok_or("a request id has 32 hex digits")?;
    let row = rows
        .into_iter()
        .find(|row| row.id == wanted.0)
        .ok_or("the record holds no decided request of that id")?;
    question.iss = row.iss.or(question.iss.take());
    question.sub = row.sub.or(question.sub.take());
    question.client_id = row.client_id.or(question.client_id.take());
    question.resource = row.resource.unwrap_or_default();
    question.method = row.method;
    question.path = row.path;
    question.model = row.model;
    if !row.groups.is_empty() {
        question.groups = row.groups;
    }
    question.actors = row.actors;
    (question.node, question.run, question.thread) = (row.node, row.run, row.thread);
    question.recorded = row.statement;
    Ok(())
}

/// No core dumps and no attaching by others: memory holds credentials.
pub(super) fn protect() {
    if let Err(error) = runtime::protect_memory() {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}
