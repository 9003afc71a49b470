//! A bare client of PostgreSQL: a password in clear text, simple queries, rows counted and dropped.
//!
//! Its own few lines, not the gateway's parser: a fault of that would hide in the check.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{DATABASE, Target};
use crate::Outcome;

/// How long the server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const BUFFER_LEN: usize = 64 * 1024;
/// Protocol 3.0.
const VERSION: u32 = 3 << 16;
/// The longest message that is not a row.
const MESSAGE_LEN_MAX: u32 = 1 << 20;

/// A connection that is logged in.
pub(super) struct Client(BufReader<TcpStream>);

/// What came of a statement.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: u64,
    /// Of the rows, as they stand on the wire.
    pub(super) bytes: u64,
    /// The SQLSTATE.
    pub(super) error: Option<String>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// No connection, or another method than a password in clear text.
    pub(super) fn connect(target: &Target) -> Outcome<Self> {
        let mut io = TcpStream::connect(target.address)?;
        io.set_nodelay(true)?;
        io.set_read_timeout(Some(SILENCE_MAX))?;
        let mut body = VERSION.to_be_bytes().to_vec();
        for word in ["user", target.user, "database", DATABASE, ""] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        send(&mut io, None, &body)?;
        let mut client = Self(BufReader::with_capacity(BUFFER_LEN, io));
        loop {
            let (tag, len) = client.head()?;
            let body = client.body(len)?;
            match (tag, body.as_slice()) {
                (b'R', [0, 0, 0, 3]) => {
                    let password = format!("{}\0", target.password);
                    send(client.0.get_mut(), Some(b'p'), password.as_bytes())?;
                }
                (b'R', [0, 0, 0, 0]) | (b'S' | b'K' | b'N', _) => {}
                (b'Z', _) => return Ok(client),
                (b'E', fields) => return Err(format!("refused: {}", sqlstate(fields)).into()),
                (tag, _) => return Err(format!("message {tag} at the login").into()),
            }
        }
    }

    /// Asks one statement and reads all of its answer.
    ///
    /// # Errors
    /// The connection breaks, or an answer that is none.
    pub(super) fn ask(&mut self, statement: &str) -> Outcome<Answer> {
        send(self.0.get_mut(), Some(b'Q'), format!("{statement}\0").as_bytes())?;
        let mut answer = Answer::default();
        loop {
            let (tag, len) = self.head()?;
            match tag {
                b'D' => {
                    self.skip(len)?;
                    answer.rows += 1;
                    answer.bytes += u64::from(len) + 5;
                }
                b'E' => answer.error = Some(sqlstate(&self.body(len)?)),
                b'Z' => {
                    self.body(len)?;
                    return Ok(answer);
                }
                b'T' | b'C' | b'N' | b'S' | b'I' => drop(self.body(len)?),
                _ => return Err(format!("message {tag} in an answer").into()),
            }
        }
    }

    /// The next message's tag, and how long its body is.
    fn head(&mut self) -> Outcome<(u8, u32)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [tag, a, b, c, d] = head;
        let len = u32::from_be_bytes([a, b, c, d]);
        Ok((tag, len.checked_sub(4).ok_or("a message shorter than its length")?))
    }

    fn body(&mut self, len: u32) -> Outcome<Vec<u8>> {
        if len > MESSAGE_LEN_MAX {
            return Err(format!("a message of {len} bytes").into());
        }
        let mut body = vec![0; usize::try_from(len)?];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    fn skip(&mut self, len: u32) -> Outcome<()> {
        let mut left = usize::try_from(len)?;
        while left > 0 {
            let here = self.0.fill_buf()?.len().min(left);
            if here == 0 {
                return Err("the connection ends in a row".into());
            }
            self.0.consume(here);
            left -= here;
        }
        Ok(())
    }
}

/// Sends one message; the first has no tag.
fn send(io: &mut TcpStream, tag: Option<u8>, body: &[u8]) -> Outcome<()> {
    let mut message: Vec<u8> = tag.into_iter().collect();
    message.extend_from_slice(&(u32::try_from(body.len())? + 4).to_be_bytes());
    message.extend_from_slice(body);
    Ok(io.write_all(&message)?)
}

/// The code in an error's fields.
fn sqlstate(fields: &[u8]) -> String {
    let mut fields = fields.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C")).unwrap_or_default();
    String::from_utf8_lossy(code).into_owned()
}
