//! Child processes: pinned, ended with the bench, and what the kernel says they cost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::account::Account;

/// How long a child may take to end by itself.
const END_MAX: Duration = Duration::from_secs(5);
/// Records of two gateways with the segments that they prepare, and logs.
const DISK_KIB_MIN: u64 = 3 << 20;

/// A child that runs; dropping it ends it and waits for it.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    /// The signal that asks it to end.
    signal: &'static str,
    /// Held so that the directories go after the process, not before.
    directories: Vec<tempfile::TempDir>,
}

/// A command on one core, by another account if one is given. The kernel ends it when this process
/// dies without a word. `taskset` and `setpriv` become the program, so its process id is theirs.
pub(crate) fn pinned(program: impl AsRef<OsStr>, core: usize, account: Option<Account>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "setpriv"]);
    if let Some(account) = account {
        command.args(account.options());
    }
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

impl Running {
    /// Starts `program` on one core.
    ///
    /// # Errors
    /// `taskset` or `setpriv` (util-linux) or the program is missing.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        core: usize,
        log: PathBuf,
        directories: Vec<tempfile::TempDir>,
    ) -> Outcome<Self> {
        let mut command = pinned(program, core, None);
        command.args(arguments);
        Self::spawn(command, log, directories)
    }

    /// Starts a command, what it writes going to `log`.
    ///
    /// # Errors
    /// Its program is missing, or the log cannot be written.
    pub(crate) fn spawn(
        mut command: Command,
        log: PathBuf,
        directories: Vec<tempfile::TempDir>,
    ) -> Outcome<Self> {
        let out = File::create(&log)?;
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self { child, log, signal: "-TERM", directories })
    }

    /// It is asked to end by this signal, `-INT` for one.
    pub(crate) fn ended_by(mut self, signal: &'static str) -> Self {
        self.signal = signal;
        self
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// All that it wrote.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it wrote.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(6);
        lines.get(from..).unwrap_or_default().join(" | ")
    }

    /// Waits until every address accepts.
    ///
    /// # Errors
    /// The process ended, or the time is over.
    pub(crate) async fn wait_ready(
        &self,
        addresses: &[SocketAddr],
        limit: Duration,
    ) -> Outcome<()> {
        let end = Instant::now() + limit;
        for address in addresses {
            while TcpStream::connect_timeout(address, Duration::from_millis(200)).is_err() {
                let gone = fs::read_to_string(format!("/proc/{}/stat", self.pid()))
                    .map_or(true, |stat| stat.contains(") Z "));
                if gone || Instant::now() > end {
                    return Err(format!("does not listen on {address}: {}", self.log_tail()).into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = Command::new("kill").args([self.signal, &self.pid().to_string()]).status();
        let end = Instant::now() + END_MAX;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                self.directories.clear();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("\nload: process {} did not end on {}, killed", self.pid(), self.signal);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.directories.clear();
    }
}

/// Pins this process, and all threads it starts later, to one core.
///
/// # Errors
/// There is no such core, or no `taskset`.
pub(crate) fn pin_self(core: usize) -> Outcome<()> {
    let pid = std::process::id().to_string();
    let done =
        Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &pid]).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("cannot run on core {core}: {}", String::from_utf8_lossy(&done.stderr)).into())
    }
}

/// `N` loopback ports that are free: all held at once, so that they differ.
///
/// # Errors
/// None is left.
pub(crate) fn free_ports<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// Run time of each thread of a process, in nanoseconds, and the thread's name.
pub(crate) struct Cpu(BTreeMap<u32, (String, u64)>);

impl Cpu {
    /// Reads `/proc/PID/task/*/schedstat`.
    pub(crate) fn of(pid: u32) -> Self {
        let mut threads = BTreeMap::new();
        if let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) {
            for task in tasks.flatten() {
                let path = task.path();
                let Some(id) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
                let ran = stat.split_whitespace().next().and_then(|first| first.parse().ok());
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                threads.insert(id, (name.trim().to_owned(), ran.unwrap_or(0)));
            }
        }
        Self(threads)
    }

    /// What was used since `before`, by thread name without its number. A thread that ended in
    /// between is lost: the subjects keep theirs.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        for (id, (name, ran)) in &self.0 {
            let earlier = before.0.get(id).map_or(0, |(_, ran)| *ran);
            let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == ':');
            *used.entry(name.to_owned()).or_insert(0) += ran.saturating_sub(earlier);
        }
        used
    }
}

/// Resident bytes of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) anon: u64,
    pub(crate) shmem: u64,
}

impl Memory {
    /// Reads `/proc/PID/status`.
    pub(crate) fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok()
                })
                .unwrap_or(0)
        };
        Self {
            rss: kib("VmRSS:") * 1024,
            anon: kib("RssAnon:") * 1024,
            shmem: kib("RssShmem:") * 1024,
        }
    }
}

/// Why records in this directory would not be what they are in service, if there is a reason.
pub(crate) fn doubt_of_disk(directory: &Path) -> Option<String> {
    let out = Command::new("df").args(["-k", "--output=avail,fstype"]).arg(directory).output();
    let text = String::from_utf8(out.ok()?.stdout).ok()?;
    let mut fields = text.lines().nth(1)?.split_whitespace();
    let free_kib: u64 = fields.next()?.parse().ok()?;
    let place = directory.display();
    match fields.next()? {
        "tmpfs" | "ramfs" => {
            Some(format!("the records lie in memory, in {place}: set TMPDIR to a place on a disk"))
        }
        _ if free_kib < DISK_KIB_MIN => Some(format!(
            "{} MiB are free in {place}, the records may need {}: set TMPDIR to a larger place",
            free_kib / 1024,
            DISK_KIB_MIN / 1024
        )),
        _ => None,
    }
}

/// The load average over one minute.
pub(crate) fn load_average() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(f64::INFINITY)
}

/// The soft limit of open files of this process.
pub(crate) fn files_max() -> usize {
    fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("Max open files"))?.to_owned();
            line.split_whitespace().nth(3)?.parse().ok()
        })
        .unwrap_or(1_024)
}
