//! The part of the tour that is a database.

use super::{LINES, title};
use crate::base::{ExchangeId, Secret};
use crate::cli::demo::server::{DATABASE, EMAIL};
use crate::cli::demo::setup::Setup;
use crate::cli::sessions;
use crate::control::database::{Answer, Database, Target, Times};
use crate::credential::{AuthMethod, AuthMethods, OperatorLogin};
use crate::wire::postgres::Cells;
use std::time::Duration;

/// What came of the statements, in order.
struct Said {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    refused: Result<String, String>,
    again: Result<String, String>,
}

/// Runs it, its first title being `number`. `Ok(None)`: there is no database.
pub(super) async fn run(setup: &Setup, number: u32) -> Result<Option<bool>, String> {
    let Some(address) = setup.database else { return Ok(None) };
    let target = Target {
        host: address.ip().to_string(),
        port: address.port(),
        database: DATABASE.to_owned(),
        tls: None,
        // A Weirgate asks for the token as it is: in plain text on loopback only.
        auth: AuthMethods::NONE.with(AuthMethod::Cleartext),
    };
    let token = Secret::new(setup.ana.clone().into_bytes());
    let said = tokio::task::spawn_blocking(move || ask(&target, token));
    let said = said.await.map_err(|error| error.to_string())??;

    title(number, "ana asks a database; her token is the password, columns are masked on the way");
    println!("   {SELECT}");
    println!("   {}", said.columns.join(" | "));
    for row in &said.rows {
        println!("   {}", row.join(" | "));
    }
    let whole = said.rows.concat().join(" ");
    let mut fine = said.rows.len() == 3 && !whole.contains(EMAIL) && whole.contains("REDACTED");

    title(number + 1, "a DELETE is refused with the rule and an id, and the connection goes on");
    println!("   {DELETE}");
    let told = |outcome: &Result<String, String>| match outcome {
        Ok(tag) | Err(tag) => tag.clone(),
    };
    println!("   {}", told(&said.refused));
    println!("   {COUNT}: {}", told(&said.again));
    fine &= said.refused.as_ref().is_err_and(|error| error.contains("no-deletes"));
    fine &= said.again == Ok("3".to_owned());

    title(number + 2, "the statement as the record has it");
    fine &= show(setup).await?;
    Ok(Some(fine))
}

fn ask(target: &Target, token: Secret) -> Result<Said, String> {
    let login = OperatorLogin::new("ana".to_owned(), token, None);
    let failed = |error: crate::control::database::DatabaseError| format!("the database: {error}");
    let mut database =
        Database::connect(target, &login, &[], Times::of(SILENCE)).map_err(failed)?;
    let mut one = |text: &str| {
        let answers = database.query(text).map_err(failed)?;
        answers.into_iter().next().ok_or_else(|| "the database: no answer".to_owned())
    };
    let (selected, deleted, counted) = (one(SELECT)?, one(DELETE)?, one(COUNT)?);
    let count = rows(&counted).concat().join(" ");
    let said = Said {
        rows: rows(&selected),
        columns: selected.columns,
        refused: deleted.outcome.map_err(|error| error.to_string()),
        again: counted.outcome.map(|_| count).map_err(|error| error.to_string()),
    };
    database.end();
    Ok(said)
}

fn rows(answer: &Answer) -> Vec<Vec<String>> {
    let text = |cell: Option<&[u8]>| {
        cell.map_or_else(|| "NULL".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let row = |body: &Vec<u8>| {
        let mut row = Vec::new();
        let Ok(mut cells) = Cells::new(body) else { return row };
        while let Ok(Some(cell)) = cells.next() {
            row.push(text(cell));
        }
        row
    };
    answer.rows.iter().map(row).collect()
}

/// Prints the masked SELECT out of the record.
async fn show(setup: &Setup) -> Result<bool, String> {
    // The drain moves entries to disk every few milliseconds.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let filter =
        sessions::Filter { resource: Some(DATABASE.to_owned()), ..sessions::Filter::default() };
    let (rows, _) = sessions::rows(&setup.data(), &filter)?;
    let found = rows.iter().find(|row| row.method.as_deref() == Some("select"));
    let Some(row) = found else { return Ok(false) };
    let (mut out, mut errors) = (Vec::new(), std::io::stderr());
    let id = ExchangeId(row.id).to_string();
    let shown = sessions::show(&setup.data(), &id, false, &mut out, &mut errors) == 0;
    let text = String::from_utf8_lossy(&out);
    println!("   weirgate sessions show {id}");
    for line in text.lines().skip_while(|line| !line.starts_with("=>")).take(LINES) {
        println!("   {}", line.chars().take(150).collect::<String>());
    }
    Ok(shown && text.contains(SELECT) && !text.contains(EMAIL))
}

const SELECT: &str = "select id, name, email, card, born from customers order by id";
const DELETE: &str = "delete from customers where id = 1";
const COUNT: &str = "select count(*) from customers";
/// How long the gateway may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
