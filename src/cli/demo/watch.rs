//! What sees to it that the demo's server does not outlive the demo, however that ends.
//!
//! A small shell script reads from a pipe whose other end only the demo holds. It is told the server's
//! process id, and in the end that all is well; where the pipe ends without that, the demo is gone
//! (`kill -9`), and the script stops the server and removes its folder. It runs in a process group of its own, as the
//! server does, so that Ctrl-C does not end it. Who kills the script as well keeps the server.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The running script. A drop without [`rest`](Self::rest) makes it clean up.
pub(super) struct Watch(Child);

impl Watch {
    /// Starts it by `command`, which runs `/bin/sh`; it answers for the folder `place` from here on.
    pub(super) fn start(mut command: Command, place: &Path) -> io::Result<Self> {
        command.args(["-c", SCRIPT, "weirgate-demo"]).arg(place);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }

    /// The server runs.
    pub(super) fn guard(&mut self, server: u32) -> io::Result<()> {
        self.tell(&format!("{server}\n"))
    }

    /// The server is stopped, and nothing is left to do.
    pub(super) fn rest(mut self) {
        // It is gone: then it does nothing any more, either.
        let _ = self.tell("done\n");
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        let Some(pipe) = &mut self.0.stdin else { return Ok(()) };
        pipe.write_all(line.as_bytes())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// SIGQUIT is an immediate shutdown. Where there was no server so far, initdb may still be at work: it
/// gives up when its folder goes.
const SCRIPT: &str = r#"
if read -r server; then
  read -r done && exit 0
  kill -QUIT "$server"
  tries=0
  while kill -0 "$server" && [ $tries -lt 20 ]; do tries=$((tries + 1)); sleep 1; done
else
  rm -rf -- "$1"
  sleep 2
fi
rm -rf -- "$1"
"#;
