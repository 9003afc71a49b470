//! The command line, and how long a cell runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::Outcome;
use crate::rows::{self, Row, Subject};

const EXAMPLES: &str = "\
A cell is one row on one subject. Its seconds are split over the rounds, and in each round all
subjects take their turn; warming up is apart. The time of the whole run is printed first, and
ended after at most twice as long; what was measured by then, or by Ctrl-C, is printed.

Examples:
  scripts/bench.sh load --quick                        about a minute
  scripts/bench.sh load --targets                      what there are targets for, under 30 minutes; the same as
  scripts/bench.sh load --only l7-64,l4,alloc --peers haproxy,nginx,bare,full --seconds 60 --rounds 6
  scripts/bench.sh load --only alloc                   allocations alone, good on a busy machine too
  scripts/bench.sh load --only sse --peers nginx,full  one kind of row, two subjects
  scripts/bench.sh load --only pgbench                 PostgreSQL, PgBouncer beside; by --only or --all alone

Records and logs go to the directory for temporary files (TMPDIR) while the run lasts: about
1 GiB for each of the two gateways, on a disk and not in memory if the record's price is to be
right. Journal rings go to /dev/shm, 16 MiB each.";

/// Side-by-side load bench: a gateway, bare and with everything on, and its peers
#[derive(Debug, Parser)]
#[command(name = "load", disable_version_flag = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// About 60 seconds in all: fewer rows, 3 short rounds
    #[arg(long)]
    pub(crate) quick: bool,
    /// The rows and subjects that there are targets for, 60 seconds a cell in 6 rounds
    #[arg(long, conflicts_with = "quick")]
    pub(crate) targets: bool,
    /// Every row, also those that are off by default
    #[arg(long)]
    pub(crate) all: bool,
    /// Measured seconds per cell, split over the rounds (default 10, with --targets 60)
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Interleaved rounds (default 5, with --quick 3, with --targets 6)
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Rows whose name contains one of these, comma separated (see --list): l7-64, tls, l4, alloc,
    /// pgbench
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Subjects, comma separated: direct, haproxy, nginx, envoy, pgbouncer, bare, full; without
    /// `direct` no added latencies (default all, with --targets haproxy, nginx, bare, full)
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
    /// Allocations of each allocation row whose place in the source is printed, 0 for none
    #[arg(long, default_value_t = 0)]
    pub(crate) origins: usize,
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
    /// The same in whole seconds, which is how pgbench tells its progress.
    pub(crate) fn whole_seconds(self) -> Self {
        let measure =
            Duration::from_secs(self.measure.as_millis().div_ceil(1_000).try_into().unwrap_or(1));
        Self { rounds: self.rounds, warm: Duration::from_secs(1), measure }
    }

    /// How long the timed part takes, with connects and what is under way at the end of a cell.
    pub(crate) fn plan(&self, cells: usize) -> Duration {
        let each = self.warm + self.measure + Duration::from_millis(100);
        let turns = u32::try_from(cells.saturating_mul(self.rounds)).unwrap_or(u32::MAX);
        each.saturating_mul(turns)
    }

    /// The longest it may take: twice the plan, a second for each turn, and a minute.
    pub(crate) fn bound(&self, cells: usize) -> Duration {
        let turns = u64::try_from(cells.saturating_mul(self.rounds)).unwrap_or(u64::MAX);
        self.plan(cells)
            .saturating_mul(2)
            .saturating_add(Duration::from_secs(turns.saturating_add(60)))
    }
}

impl Args {
    /// Every row that can be asked for.
    pub(crate) fn every_row(&self) -> Vec<Row> {
        rows::every(self.idle.unwrap_or(if self.quick { 1_000 } else { 3_000 }))
    }

    /// The rows asked for.
    ///
    /// # Errors
    /// A name that fits no row.
    pub(crate) fn rows(&self) -> Outcome<Vec<Row>> {
        for part in &self.only {
            if !self.every_row().iter().any(|row| row.name.contains(part.as_str())) {
                return Err(format!("no row has `{part}` in its name; --list prints them").into());
            }
        }
        let chosen: Vec<Row> = self
            .every_row()
            .into_iter()
            .filter(|row| {
                if !self.only.is_empty() {
                    self.only.iter().any(|part| row.name.contains(part.as_str()))
                } else if self.targets {
                    row.target
                } else {
                    self.all || if self.quick { row.quick } else { row.default }
                }
            })
            .collect();
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
                .filter(|subject| match subject {
                    Subject::Direct => !self.targets,
                    Subject::Envoy => !self.targets && self.envoy.is_some(),
                    _ => true,
                })
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
        let usual = match (self.quick, self.targets) {
            (true, _) => 3,
            (_, true) => 6,
            _ => 5,
        };
        let rounds = self.rounds.unwrap_or(usual).max(1);
        let warm = Duration::from_millis(if self.quick { 200 } else { 400 });
        let turns =
            f64::from(u32::try_from(cells.saturating_mul(rounds).max(1)).unwrap_or(u32::MAX));
        let rounds_f = f64::from(u32::try_from(rounds).unwrap_or(1));
        let each = match self.seconds {
            Some(seconds) => seconds / rounds_f,
            None if self.targets => 60.0 / rounds_f,
            // What is left of the minute after start, probes and the memory rows.
            None if self.quick => (48.0 / turns - warm.as_secs_f64() - 0.03).clamp(0.15, 2.0),
            None => 10.0 / rounds_f,
        };
        let measure = Duration::from_secs_f64(each.clamp(0.1, 600.0));
        Timing { rounds, warm, measure }
    }
}
