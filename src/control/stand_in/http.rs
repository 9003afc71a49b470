//! The stand-in's HTTP/1.1: keep-alive, both body framings, event streams by chunks.
//!
//! Heads are kept byte for byte, which a server library would not give. It is lenient, since the
//! strict parser is what stands before it.

use super::{Reply, Server};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One request, read whole.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) head: Vec<u8>,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Serves one connection until it ends or breaks.
pub(super) async fn serve(mut stream: TcpStream, server: Arc<Server>) {
    // A peer that goes away ends its connection and nothing else.
    let _ = run(&mut stream, &server).await;
}

async fn run(stream: &mut TcpStream, server: &Server) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = Vec::with_capacity(4096);
    while let Some(request) = read_request(stream, &mut buf).await? {
        let close = request.closes();
        if let Err(gone) = write_reply(stream, server.answer(&request), close).await {
            server.seen.add_cut();
            return Err(gone);
        }
        if close {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// Reads the next request; `None` when the peer closed between requests.
async fn read_request(stream: &mut TcpStream, buf: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let mut request = loop {
        if let Some(request) = parse_head(buf)? {
            break request;
        }
        if buf.len() > HEAD_MAX {
            return Err(bad("a head that is too long"));
        }
        if stream.read_buf(buf).await? == 0 {
            return if buf.is_empty() { Ok(None) } else { Err(bad("a cut head")) };
        }
    };
    buf.drain(..request.head.len());
    if request.field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if request.field("transfer-encoding").is_some() {
        request.body = read_chunks(stream, buf).await?;
    } else if let Some(length) = request.field("content-length") {
        let length = length.parse().map_err(|_| bad("a wrong length"))?;
        request.body = take(stream, buf, length).await?;
    }
    Ok(Some(request))
}

fn parse_head(buf: &[u8]) -> io::Result<Option<Request>> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(buf).map_err(|_| bad("a head")) else {
        return if buf.len() > HEAD_MAX { Err(bad("a head")) } else { check_start(buf) };
    };
    Ok(Some(Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        fields: head
            .headers
            .iter()
            .map(|field| {
                let value = String::from_utf8_lossy(field.value).into_owned();
                (field.name.to_ascii_lowercase(), value)
            })
            .collect(),
        head: buf.get(..length).unwrap_or_default().to_vec(),
        body: Vec::new(),
    }))
}

/// Tells a head that is not whole yet from one that never will be.
fn check_start(buf: &[u8]) -> io::Result<Option<Request>> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    match httparse::Request::new(&mut fields).parse(buf) {
        Err(_) => Err(bad("a head that is not HTTP/1.1")),
        Ok(_) => Ok(None),
    }
}

async fn read_chunks(stream: &mut TcpStream, buf: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (line, size) = loop {
            match httparse::parse_chunk_size(buf) {
                Ok(httparse::Status::Complete((line, size))) => break (line, size),
                Ok(httparse::Status::Partial) => more(stream, buf).await?,
                Err(_) => return Err(bad("a wrong chunk size")),
            }
        };
        let size = usize::try_from(size).map_err(|_| bad("a chunk that is too long"))?;
        take(stream, buf, line).await?;
        body.extend_from_slice(&take(stream, buf, size).await?);
        // The line end of the chunk, or the empty line of a body without trailers.
        take(stream, buf, 2).await?;
        if size == 0 {
            return Ok(body);
        }
        if body.len() > BODY_MAX {
            return Err(bad("a body that is too long"));
        }
    }
}

/// Takes the next `length` bytes off the connection.
async fn take(stream: &mut TcpStream, buf: &mut Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_MAX {
        return Err(bad("a body that is too long"));
    }
    while buf.len() < length {
        more(stream, buf).await?;
    }
    let tail = buf.split_off(length);
    Ok(std::mem::replace(buf, tail))
}

async fn more(stream: &mut TcpStream, buf: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buf).await? {
        0 => Err(bad("a cut body")),
        _ => Ok(()),
    }
}

async fn write_reply(stream: &mut TcpStream, reply: Reply, close: bool) -> io::Result<()> {
    match reply {
        Reply::Whole { status, fields, body } => {
            let mut text = head(status, &fields, close);
            let _ = write!(text, "content-length: {}\r\n\r\n", body.len());
            text.push_str(&body);
            stream.write_all(text.as_bytes()).await
        }
        Reply::Events { fields, events, delay } => {
            let mut text = head(200, &fields, close);
            text.push_str("transfer-encoding: chunked\r\n\r\n");
            stream.write_all(text.as_bytes()).await?;
            for event in events {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                text.clear();
                let _ = write!(text, "{:x}\r\n{event}\r\n", event.len());
                stream.write_all(text.as_bytes()).await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
    }
}

fn head(status: u16, fields: &[(&'static str, String)], close: bool) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        _ => "Status",
    };
    let mut text = format!("HTTP/1.1 {status} {reason}\r\nserver: stand-in\r\n");
    for (name, value) in fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if close {
        text.push_str("connection: close\r\n");
    }
    text
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const HEAD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 64 << 20;
