//! Webhooks of a live gateway: notices that arrive, that do not, and what comes back.

mod callbacks;
mod delivery;
mod links;

use crate::approvals::{Session, ask};
use crate::kit::upstream::Heard;
use crate::kit::{Home, PATIENCE, Upstream, eventually};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use weirgate::base::Secret;
use weirgate::cli::cert::Made;
use weirgate::control::notify::signature::verify_standard;
use weirgate::gateway::Gateway;
use weirgate::policy::approval::ApprovalId;

pub(super) const KEY: &str = "the-key-of-the-webhook-chat-0123456";
pub(super) const URL: &str = "https://gw.test.invalid";

/// One notice as it came.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Notice {
    pub(super) fn field(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.head)).trim().to_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether it is signed by `key`.
    pub(super) fn is_signed_by(&self, key: &str) -> bool {
        let fields =
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|f| self.field(f));
        let keys = [Secret::new(key.as_bytes().to_vec())];
        let now_s = weirgate::runtime::now().wall_s();
        verify_standard(&keys, fields.each_ref().map(String::as_str), &self.body, now_s).is_ok()
    }
}

/// Keeps what was heard, and answers.
type Hear = Box<dyn Fn(&Heard, &mut dyn Write) -> std::io::Result<()> + Send + Sync>;

/// A receiver that keeps what it heard and answers with a status that can be changed; 0 hangs up.
pub(super) struct Receiver {
    pub(super) upstream: Upstream,
    pub(super) heard: Arc<Mutex<Vec<Notice>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub(super) fn new(status: u16) -> Self {
        Self::over(status, |hear| Upstream::start(move |request, stream| hear(request, stream)))
    }

    /// The same over TLS.
    pub(super) fn secure(made: &Made) -> Self {
        Self::over(200, |hear| {
            Upstream::secure(&made.cert, &made.key, move |request, stream| hear(request, stream))
        })
    }

    fn over(status: u16, start: impl FnOnce(Hear) -> Upstream) -> Self {
        let heard = Arc::<Mutex<Vec<Notice>>>::default();
        let status = Arc::new(AtomicU16::new(status));
        let (hears, answers) = (Arc::clone(&heard), Arc::clone(&status));
        let upstream = start(Box::new(move |request: &Heard, stream: &mut dyn Write| {
            let (head, body) = (request.head.clone(), request.body.clone());
            let head = format!("{head}\r\n:path: {}", request.path);
            hears.lock().unwrap().push(Notice { head, body });
            match answers.load(Ordering::Acquire) {
                0 => Err(std::io::Error::other("hangs up")),
                status => write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
            }
        }));
        Self { upstream, heard, status }
    }

    pub(super) fn set(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks/x", self.upstream.address)
    }

    /// Waits for so many notices.
    #[track_caller]
    pub(super) fn hears(&self, count: usize) -> Vec<Notice> {
        eventually("notices", PATIENCE, || {
            let heard = self.heard.lock().unwrap();
            (heard.len() >= count).then(|| heard.clone())
        })
    }
}

/// A config with an admin address and what `hooks` says.
pub(super) fn configure(home: &Home, hooks: &str) {
    home.write("admin.token", "the-admin-token");
    home.write("chat.key", KEY);
    let more = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\nissuer = \"dev\"\nviewers = [\"security\"]\n\
         token = \"file:admin.token\"\npublic_url = \"{URL}\"\n{hooks}"
    );
    home.configure(([127, 0, 0, 1], 9).into(), &more);
}

/// The webhook `chat`, and what `more` says of it.
pub(super) fn chat(url: &str, more: &str) -> String {
    format!("[[webhook]]\nname = \"chat\"\nurl = \"{url}\"\nsecret = \"file:chat.key\"\n{more}\n")
}

pub(super) fn start(home: &Home) -> (Gateway, SocketAddr) {
    let gateway = home.start();
    let admin = gateway.admin_address().unwrap();
    (gateway, admin)
}

pub(super) fn asked(gateway: &Gateway, sub: &str, what: u8) -> ApprovalId {
    Session::of(gateway, u64::from(what)).asks(&ask(sub, what))
}
