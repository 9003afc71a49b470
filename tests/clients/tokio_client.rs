//! What a program on tokio-postgres does, told line by line: the same directly and through the
//! gateway. `test_postgres.py` runs it with the connection's settings in `DSN`.

#![expect(clippy::unwrap_used, reason = "tests")]

use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future, stream};
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

fn say(what: &str, told: impl Debug) {
    println!("{what}: {told:?}");
}

/// The SQLSTATE and words of an error, without what differs from run to run.
fn failed(error: &Error) -> String {
    let told = error.as_db_error().unwrap_or_else(|| panic!("not from the server: {error:?}"));
    format!("{} {}", told.code().code(), told.message())
}

async fn typed(client: &Client) {
    let text = "select $1::int4, $2::text, $3::bytea, $4::int8[], $5::bool, $6::float8, $7::text";
    let statement = client.prepare(text).await.unwrap();
    say("parameters", statement.params());
    for round in 0..3i32 {
        let values: [&(dyn ToSql + Sync); 7] = [
            &round,
            &"caf\u{e9}",
            &&[0u8, 255, 7][..],
            &vec![1i64, -2, i64::MAX],
            &true,
            &0.5f64,
            &None::<String>,
        ];
        let row = client.query_one(&statement, &values).await.unwrap();
        say("int4", row.get::<_, i32>(0));
        say("text", row.get::<_, String>(1));
        say("bytea", row.get::<_, Vec<u8>>(2));
        say("int8[]", row.get::<_, Vec<i64>>(3));
        say("bool", row.get::<_, bool>(4));
        say("float8", row.get::<_, f64>(5));
        say("null", row.get::<_, Option<String>>(6));
    }
    let found = client.query_opt("select name from customers where id = $1", &[&-1i32]).await;
    say("no row", found.unwrap().is_none());
}

async fn transactions(client: &mut Client) {
    let mut outer = client.transaction().await.unwrap();
    outer.execute("insert into notes values ($1, $2)", &[&1i32, &"kept"]).await.unwrap();
    let inner = outer.transaction().await.unwrap();
    let twice = inner.execute("insert into notes values ($1, $2)", &[&1i32, &"again"]).await;
    say("twice", failed(&twice.unwrap_err()));
    inner.rollback().await.unwrap();
    let statement = outer.prepare("select id from customers order by id").await.unwrap();
    let portal = outer.bind(&statement, &[]).await.unwrap();
    for most in [40, 40, 40] {
        let rows = outer.query_portal(&portal, most).await.unwrap();
        say("portal", (rows.len(), rows.first().map(|row| row.get::<_, i32>(0))));
    }
    outer.commit().await.unwrap();
    let dropped = client.transaction().await.unwrap();
    dropped.batch_execute("delete from notes where id = 1").await.unwrap();
    drop(dropped);
    let left = client.query_one("select count(*) from notes where id = 1", &[]).await.unwrap();
    say("left", left.get::<_, i64>(0));
}

async fn copies(client: &Client) {
    let sink = client.copy_in("copy notes from stdin").await.unwrap();
    let mut sink = pin!(sink);
    for number in 10..510 {
        sink.send(bytes::Bytes::from(format!("{number}\tnote {number}\n"))).await.unwrap();
    }
    say("copied in", sink.finish().await.unwrap());
    let out = client.copy_out("copy (select id from notes order by id) to stdout").await.unwrap();
    let bytes = out.try_fold(0, |sum, piece| future::ok(sum + piece.len())).await;
    say("copied out", bytes.unwrap());
    say("removed", client.execute("delete from notes where id >= $1", &[&10i32]).await.unwrap());
}

async fn pipelined(client: &Client) {
    let ask = "select $1::int4 * 2";
    let all = future::join_all((0..30i32).map(async |number| {
        let row = client.query_one(ask, &[&number]).await.unwrap();
        row.get::<_, i32>(0)
    }));
    say("pipelined", all.await);
    let mixed = future::join3(
        client.query_one("select 1", &[]),
        client.query_one("select 1 / $1::int4", &[&0i32]),
        client.query_one("select 3", &[]),
    );
    let (first, second, third) = mixed.await;
    say("first", first.unwrap().get::<_, i32>(0));
    say("second", failed(&second.unwrap_err()));
    say("third", third.unwrap().get::<_, i32>(0));
}

async fn simple(client: &Client) {
    let told = client.simple_query("select 1 as a; select 'x' as b where false; select 2").await;
    for message in told.unwrap() {
        match message {
            SimpleQueryMessage::Row(row) => say("row", row.get(0)),
            SimpleQueryMessage::CommandComplete(count) => say("complete", count),
            SimpleQueryMessage::RowDescription(columns) => say("columns", columns.len()),
            other => say("other", other),
        }
    }
    for text in ["selekt 1", "select nosuch", "select 1/0"] {
        say(text, failed(&client.batch_execute(text).await.unwrap_err()));
    }
}

async fn cancelled(client: &Client) {
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await.unwrap();
    };
    let (slept, ()) = future::join(client.query("select pg_sleep(20)", &[]), cancel).await;
    say("cancelled", failed(&slept.unwrap_err()));
    say("after", client.query_one("select 7", &[]).await.unwrap().get::<_, i32>(0));
}

/// A reader may not delete all; the connection, and what is pipelined around it, goes on.
async fn refused(client: &Client) {
    for _ in 0..2 {
        let delete = client.execute("delete from notes", &[]).await.unwrap_err();
        let told = delete.as_db_error().unwrap();
        say("refused", (told.code().code(), told.message().contains("no-mass-delete")));
        let rows = client.query_one("select count(*) from orders", &[]).await.unwrap();
        say("rows", rows.get::<_, i64>(0));
    }
    let (before, refused, behind) = future::join3(
        client.query_one("select 1", &[]),
        client.execute("update notes set body = 'x'", &[]),
        client.query_one("select 3", &[]),
    )
    .await;
    say("before", before.unwrap().get::<_, i32>(0));
    say("refused", refused.unwrap_err().code().unwrap().code());
    say("behind", behind.unwrap().get::<_, i32>(0));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dsn = std::env::var("DSN").unwrap();
    let (mut client, mut connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    let (heard, mut hear) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(told) = message {
                let _ = heard.send((told.channel().to_owned(), told.payload().to_owned()));
            }
        }
    });
    if std::env::args().nth(1).as_deref() == Some("refused") {
        return refused(&client).await;
    }
    typed(&client).await;
    transactions(&mut client).await;
    copies(&client).await;
    pipelined(&client).await;
    simple(&client).await;
    cancelled(&client).await;
    client.batch_execute("listen news; notify news, 'told'").await.unwrap();
    say("heard", hear.recv().await.unwrap());
    client.batch_execute("delete from notes where id = 1").await.unwrap();
}
