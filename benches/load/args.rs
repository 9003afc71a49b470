//! The command line, and how long a cell runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::Outcome;
use crate::rows::{self, Row, Subject};

/// Side-by-side load bench. Example: scripts/bench.sh --only l7 --seconds 10
#[derive(Debug, Parser)]
#[command(name = "load", disable_version_flag = true)]
pub(crate) struct Args {
    /// About 60 seconds in all: fewer rows, 3 short rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// Every row, also those that are off by default
    #[arg(long)]
    pub(crate) all: bool,
    /// Measured seconds per cell, split over the rounds (default 10)
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Interleaved rounds (default 5, with --quick 3)
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Rows whose name contains one of these, comma separated (see --list)
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Subjects, comma separated: direct, haproxy, nginx, envoy, bare, full
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Print ratios also when the load average is above 4
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the names of the rows and leave
    #[arg(long)]
    pub(crate) list: bool,
    /// Idle connections opened by the memory rows (default 3000, with --quick 1000)
    #[arg(long)]
    pub(crate) idle: Option<usize>,
    /// Core of the proxies
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_core: usize,
    /// Core of load and upstream
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// The gateway's binary
    #[arg(long, default_value = env!("CARGO_BIN_EXE_weirgate"))]
    pub(crate) weirgate: PathBuf,
    /// Envoy's binary (scripts/bench.sh names it); without it Envoy is left out
    #[arg(long)]
    pub(crate) envoy: Option<PathBuf>,
    /// Keep configurations and logs of the subjects in this directory
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
    #[arg(long, hide = true)]
    bench: bool,
}

/// How cells are timed.
pub(crate) struct Timing {
    pub(crate) rounds: usize,
    pub(crate) warm: Duration,
    pub(crate) measure: Duration,
}

impl Timing {
    /// The longest the timed part may take: twice the plan and a minute.
    pub(crate) fn bound(&self, cells: usize) -> Duration {
        let each = self.warm + self.measure + Duration::from_secs(1);
        let turns = u32::try_from(cells.saturating_mul(self.rounds)).unwrap_or(u32::MAX);
        each.saturating_mul(turns).saturating_mul(2) + Duration::from_secs(60)
    }
}

impl Args {
    /// The rows asked for.
    ///
    /// # Errors
    /// A name that fits no row; `--list` ends here too, by an error that carries the list.
    pub(crate) fn rows(&self) -> Outcome<Vec<Row>> {
        let idle = self.idle.unwrap_or(if self.quick { 1_000 } else { 3_000 });
        let every = rows::every(idle);
        if self.list {
            let names: Vec<&str> = every.iter().map(|row| row.name.as_str()).collect();
            return Err(format!("rows: {}", names.join(" ")).into());
        }
        let chosen: Vec<Row> = every
            .into_iter()
            .filter(|row| {
                if self.only.is_empty() {
                    self.all || if self.quick { row.quick } else { row.default }
                } else {
                    self.only.iter().any(|part| row.name.contains(part.as_str()))
                }
            })
            .collect();
        if chosen.is_empty() {
            return Err("no row has such a name; --list prints them".into());
        }
        Ok(chosen)
    }

    /// The subjects asked for, in the order of the table.
    ///
    /// # Errors
    /// A name that is no subject.
    pub(crate) fn subjects(&self) -> Outcome<Vec<Subject>> {
        if self.peers.is_empty() {
            return Ok(Subject::EVERY
                .into_iter()
                .filter(|subject| *subject != Subject::Envoy || self.envoy.is_some())
                .collect());
        }
        for name in &self.peers {
            if !Subject::EVERY.iter().any(|subject| subject.name() == name) {
                return Err(format!("no subject is called {name}").into());
            }
        }
        Ok(Subject::EVERY
            .into_iter()
            .filter(|subject| self.peers.iter().any(|name| name == subject.name()))
            .collect())
    }

    /// Rounds and seconds for this many cells.
    pub(crate) fn timing(&self, cells: usize) -> Timing {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).max(1);
        let warm = Duration::from_millis(if self.quick { 200 } else { 400 });
        let turns =
            f64::from(u32::try_from(cells.saturating_mul(rounds).max(1)).unwrap_or(u32::MAX));
        let rounds_f = f64::from(u32::try_from(rounds).unwrap_or(1));
        let each = match self.seconds {
            Some(seconds) => seconds / rounds_f,
            // What is left of the minute after start, probes and the memory rows.
            None if self.quick => (48.0 / turns - warm.as_secs_f64() - 0.03).clamp(0.15, 2.0),
            None => 10.0 / rounds_f,
        };
        let measure = Duration::from_secs_f64(each.clamp(0.1, 600.0));
        Timing { rounds, warm, measure }
    }
}
