//! The program as a child process, with its log.

use super::{PATIENCE, eventually};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// `weirgate serve`; killed when dropped.
pub(crate) struct Served {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Served {
    /// Starts it, and waits for nothing.
    pub(crate) fn start(config: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_weirgate")), config, environment)
    }

    /// The same in a mount namespace of its own, whose `/dev/shm` goes with the process, as that
    /// of a container does. `None` where the system refuses that.
    pub(crate) fn start_contained(config: &Path) -> Option<Self> {
        let unshare = ["--mount", "--propagation", "private", "sh", "-c"];
        let mount = "mount -t tmpfs -o size=256m weirgate-test /dev/shm";
        let mut trial = Command::new("unshare");
        if !trial.args(unshare).arg(mount).output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mut command = Command::new("unshare");
        let run = format!("{mount} && exec \"$0\" \"$@\"");
        command.args(unshare).arg(run).arg(env!("CARGO_BIN_EXE_weirgate"));
        Some(Self::spawn(command, config, &[]))
    }

    fn spawn(mut command: Command, config: &Path, environment: &[(&str, &str)]) -> Self {
        command.args(["--log", "info", "--log-format", "json", "serve", "-c"]).arg(config);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                to.lock().unwrap().push(line);
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// The fields of the first log line that `takes`.
    #[track_caller]
    pub(crate) fn logged(&mut self, what: &str, takes: impl Fn(&Value) -> bool) -> Value {
        let mut read = 0;
        eventually(what, PATIENCE, || {
            // Looked at before the log: what it said before its end is read.
            let ended = self.child.try_wait().unwrap();
            let log = self.log.lock().unwrap().clone();
            for line in &log[read..] {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                if takes(&line["fields"]) {
                    return Some(line["fields"].clone());
                }
            }
            read = log.len();
            assert!(ended.is_none(), "{what}: it ended with {ended:?}: {log:#?}");
            None
        })
    }

    /// Waits for a line with this text in its message.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> Value {
        self.logged(text, |fields| fields["message"].as_str().is_some_and(|m| m.contains(text)))
    }

    /// Where a listener is bound.
    #[track_caller]
    pub(crate) fn address(&mut self, listener: &str) -> SocketAddr {
        let fields = self.logged("a listener", |fields| fields["listener"] == listener);
        fields["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// A signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([format!("-{name}"), pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it at once, with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the end of the program", PATIENCE, || self.child.try_wait().unwrap())
    }

    /// Bytes of memory that are its own: no mapped file, no ring.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}
