//! Collects cells and prints one Markdown table: medians and extremes over rounds, ratios taken
//! inside each round, percentiles over all rounds together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::process::Command;

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::allocations::{self, Allocated};
use crate::args::Args;
use crate::drive::Sample;
use crate::held::{self, Held};
use crate::idle::Growth;
use crate::peers;
use crate::postgres;
use crate::process::load_average;
use crate::rows::{Family, Load, Row, Subject};

/// Above this the scheduler is what is measured.
const LOAD_MAX: f64 = 4.0;

/// What one cell gave.
pub(crate) enum Cell {
    Timed(Box<Sample>),
    Idle(Growth),
}

/// What each round of a row gave on one subject.
pub(crate) type Rounds<'r> = BTreeMap<usize, &'r Sample>;

/// All cells of the run, in the order of the rows.
pub(crate) struct Report {
    force: bool,
    order: Vec<Row>,
    cells: BTreeMap<(usize, Subject), BTreeMap<usize, Cell>>,
    allocated: Vec<(String, Subject, Allocated)>,
    held: Vec<(String, Subject, Held)>,
    gone: BTreeSet<(String, Subject)>,
    versions: Vec<String>,
    notes: Vec<String>,
    load_first: f64,
    load_most: f64,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(args: &Args) -> Self {
        let load = load_average();
        Self {
            force: args.force,
            order: Vec::new(),
            cells: BTreeMap::new(),
            allocated: Vec::new(),
            held: Vec::new(),
            gone: BTreeSet::new(),
            versions: Vec::new(),
            notes: Vec::new(),
            load_first: load,
            load_most: load,
        }
    }

    /// Looks at the load average; the highest seen decides whether ratios are printed.
    pub(crate) fn sample_load(&mut self) {
        self.load_most = self.load_most.max(load_average());
    }

    /// Notes the version of a subject that takes part.
    pub(crate) fn version(&mut self, subject: Subject, args: &Args) {
        let version = match subject {
            Subject::Direct | Subject::HaproxyRelay => return,
            Subject::GatewayBare | Subject::GatewayFull => {
                Some(format!("weirgate {}", env!("CARGO_PKG_VERSION")))
            }
            Subject::Pgbouncer => postgres::version(),
            _ => peers::version(args, subject),
        };
        self.versions(version);
    }

    /// Notes a version that is not noted yet.
    pub(crate) fn versions(&mut self, version: Option<String>) {
        self.versions.extend(version.filter(|version| !self.versions.contains(version)));
    }

    /// Notes how the start of a subject went: its version, or why the table goes without it.
    pub(crate) fn started<T>(
        &mut self,
        subject: Subject,
        args: &Args,
        started: Outcome<T>,
    ) -> Option<T> {
        match started {
            Ok(one) => {
                self.version(subject, args);
                Some(one)
            }
            Err(error) => {
                eprintln!("load: {}: {error}", subject.label());
                self.note(format!("{} left out: {error}", subject.label()));
                None
            }
        }
    }

    /// A line under the table.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// This row has no figures for this subject, and why.
    pub(crate) fn give_up(&mut self, row: &Row, subject: Subject, why: String) {
        self.gone.insert((row.name.clone(), subject));
        let index = self.index(row);
        self.cells.remove(&(index, subject));
        self.note(format!("{} {}: no figures: {why}", row.name, subject.label()));
    }

    /// Was it given up in an earlier round?
    pub(crate) fn gave_up(&self, row: &Row, subject: Subject) -> bool {
        self.gone.contains(&(row.name.clone(), subject))
    }

    /// Adds a cell.
    pub(crate) fn push(&mut self, row: &Row, subject: Subject, round: usize, cell: Cell) {
        let index = self.index(row);
        self.cells.entry((index, subject)).or_default().insert(round, cell);
    }

    /// Adds what was counted for an allocation row.
    pub(crate) fn counted(&mut self, row: &Row, subject: Subject, allocated: Allocated) {
        self.allocated.push((row.name.clone(), subject, allocated));
    }

    /// Adds what a row of held requests gave.
    pub(crate) fn held(&mut self, row: &Row, subject: Subject, held: Held) {
        self.held.push((row.name.clone(), subject, held));
    }

    fn index(&mut self, row: &Row) -> usize {
        if let Some(index) = self.order.iter().position(|known| known.name == row.name) {
            return index;
        }
        self.order.push(row.clone());
        self.order.len() - 1
    }

    /// The whole report.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let trusted = self.load_most <= LOAD_MAX || self.force;
        writeln!(text, "{}", machine())?;
        writeln!(text, "Versions: {}. Command: {}", self.versions.join(", "), command())?;
        writeln!(
            text,
            "Load average {:.1} at the start, {:.1} at most{}.\n",
            self.load_first,
            self.load_most,
            match (trusted, self.force && self.load_most > LOAD_MAX) {
                (false, _) => ": above 4, ratios are not printed (--force)",
                (true, true) => ": above 4, ratios by --force are not to be trusted",
                (true, false) => "",
            }
        )?;
        let has = |family: Family| {
            self.cells.keys().any(|(index, _)| {
                self.order.get(*index).is_some_and(|row| row.load.family() == family)
            })
        };
        if has(Family::Http) {
            self.table(text, trusted)?;
        }
        if has(Family::Postgres) {
            postgres::table(text, &self.postgres(), trusted)?;
        }
        self.threads(text)?;
        if !self.allocated.is_empty() {
            allocations::table(text, &self.allocated)?;
        }
        if !self.held.is_empty() {
            held::table(text, &self.held)?;
        }
        for note in &self.notes {
            writeln!(text, "- {note}")?;
        }
        Ok(())
    }

    /// Time and memory.
    fn table(&self, text: &mut String, trusted: bool) -> std::fmt::Result {
        writeln!(
            text,
            "| row | subject | CPU, median (min-max) | x best peer | x HAProxy | per second | core % \
             | p50 us | p99 us | p99.9 us | added p50 / p99 | MB RSS / anon / shmem |"
        )?;
        writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        let rows = self.order.iter().enumerate();
        for (index, row) in rows.filter(|(_, row)| row.load.family() == Family::Http) {
            for subject in Subject::EVERY {
                if let Some(cells) = self.cells.get(&(index, subject)) {
                    self.line(text, index, row, subject, cells, trusted)?;
                }
            }
        }
        writeln!(
            text,
            "\nCPU: run time of all threads of the proxy over what was answered, not wall time. Ratios are \
             medians of the rounds' ratios. p50 and on: to the last byte; for sse rows to the first byte \
             of the body; open rows count from when the request was due. Memory: at the end of the last \
             round; for idle rows bytes per connection, anonymous and all. The gateway's journal ring is \
             shmem."
        )?;
        if self.order.iter().any(|row| row.load.is_l4()) {
            writeln!(
                text,
                "l4 rows: TLS with a client certificate to the caller, plain text to the upstream. A relay knows \
                 its caller by that certificate only: there is none in plain text to the caller."
            )?;
        }
        Ok(())
    }

    /// The rows of PostgreSQL, each subject beside direct and PgBouncer.
    fn postgres(&self) -> Vec<postgres::Line<'_>> {
        let rounds = |index: usize, subject: Subject| -> Rounds<'_> {
            let cells = self.cells.get(&(index, subject)).into_iter().flatten();
            cells.filter_map(|(round, cell)| Some((*round, timed(cell)?))).collect()
        };
        let mut lines = Vec::new();
        for (index, row) in self.order.iter().enumerate() {
            for subject in Subject::EVERY {
                let mine = rounds(index, subject);
                if row.load.family() == Family::Postgres && !mine.is_empty() {
                    let direct = rounds(index, Subject::Direct);
                    let bouncer = rounds(index, Subject::Pgbouncer);
                    lines.push(postgres::Line { row, subject, mine, direct, bouncer });
                }
            }
        }
        lines
    }

    fn line(
        &self,
        text: &mut String,
        index: usize,
        row: &Row,
        subject: Subject,
        cells: &BTreeMap<usize, Cell>,
        trusted: bool,
    ) -> std::fmt::Result {
        let unit = row.load.unit();
        let costs: Vec<f64> = cells.values().filter_map(|cell| cost(cell, &row.load)).collect();
        let ratio = |to: &dyn Fn(usize) -> Option<f64>| {
            let ratios: Vec<f64> = cells
                .iter()
                .filter_map(|(round, cell)| Some(cost(cell, &row.load)? / to(*round)?))
                .filter(|ratio| ratio.is_finite())
                .collect();
            match spread(&ratios) {
                Some((median, least, most)) if trusted => {
                    format!("{median:.2} ({least:.2}-{most:.2})")
                }
                _ => "-".to_owned(),
            }
        };
        let mine = subject.is_gateway();
        let of = |other: Subject, round: usize| {
            cost(self.cells.get(&(index, other))?.get(&round)?, &row.load)
                .filter(|cost| *cost > 0.0)
        };
        let best = |round: usize| {
            let peers = Subject::EVERY.into_iter().filter(|other| other.is_peer());
            peers.filter_map(|peer| of(peer, round)).min_by(f64::total_cmp)
        };
        let best = if mine { ratio(&best) } else { "-".to_owned() };
        let haproxy =
            if mine { ratio(&|round| of(Subject::Haproxy, round)) } else { "-".to_owned() };
        let cpu = match spread(&costs) {
            Some((median, least, most)) if costs.len() > 1 => {
                format!("{median:.1} ({least:.1}-{most:.1}) {unit}")
            }
            Some((median, ..)) => format!("{median:.1} {unit}"),
            None => "-".to_owned(),
        };
        write!(text, "| {} | {} | {cpu} | {best} | {haproxy} |", row.name, subject.label())?;
        let samples: Vec<&Sample> = cells.values().filter_map(timed).collect();
        if samples.is_empty() {
            let Some(Cell::Idle(growth)) = cells.values().next() else { return writeln!(text) };
            return writeln!(
                text,
                " n={} | | | | | | {} / {} / {} B per connection |",
                growth.connections,
                growth.per_connection(|memory| memory.rss),
                growth.per_connection(|memory| memory.anon),
                growth.per_connection(|memory| memory.shmem),
            );
        }
        let rates: Vec<f64> = samples.iter().map(|s| s.count / s.wall.as_secs_f64()).collect();
        let used: Vec<f64> =
            samples.iter().map(|s| 100.0 * cpu_s(s) / s.wall.as_secs_f64()).collect();
        let middle = |values: &[f64]| spread(values).map_or(0.0, |(median, ..)| median);
        write!(text, " {:.0} | {:.0} |", middle(&rates), middle(&used))?;
        let whole = self.merged(index, subject, &row.load);
        let bare = self.merged(index, Subject::Direct, &row.load);
        let at = |histogram: &Option<Histogram<u64>>, q: f64| {
            histogram.as_ref().map(|histogram| micros(histogram.value_at_quantile(q)))
        };
        for q in [0.5, 0.99, 0.999] {
            write!(text, " {} |", at(&whole, q).map_or("-".to_owned(), |us| format!("{us:.0}")))?;
        }
        let added = |q: f64| match (at(&whole, q), at(&bare, q)) {
            (Some(with), Some(without)) if subject != Subject::Direct => {
                format!("{:.0}", with - without)
            }
            _ => "-".to_owned(),
        };
        write!(text, " {} / {} |", added(0.5), added(0.99))?;
        let memory = samples.last().map(|sample| sample.memory).unwrap_or_default();
        let mb = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0;
        writeln!(
            text,
            " {:.1} / {:.1} / {:.1} |",
            mb(memory.rss),
            mb(memory.anon),
            mb(memory.shmem)
        )
    }

    /// All rounds' latencies in one histogram; none for bulk.
    fn merged(&self, index: usize, subject: Subject, load: &Load) -> Option<Histogram<u64>> {
        if load.is_bulk() {
            return None;
        }
        let mut samples = self.cells.get(&(index, subject))?.values().filter_map(timed);
        let pick = |sample: &Sample| match load {
            Load::Stream { .. } => sample.first.clone(),
            _ => sample.latency.clone(),
        };
        let mut whole = pick(samples.next()?);
        for sample in samples {
            whole.add(pick(sample)).ok()?;
        }
        (!whole.is_empty()).then_some(whole)
    }

    /// Which of the gateway's threads used the CPU, over all rounds of a row.
    fn threads(&self, text: &mut String) -> std::fmt::Result {
        for ((index, subject), cells) in &self.cells {
            let mine = subject.is_gateway();
            let Some(row) = self.order.get(*index).filter(|_| mine) else { continue };
            let mut used: BTreeMap<&str, u64> = BTreeMap::new();
            let mut count = 0.0;
            for sample in cells.values().filter_map(timed) {
                count += sample.count;
                for (name, ns) in &sample.cpu_ns {
                    *used.entry(name).or_insert(0) += ns;
                }
            }
            let parts: Vec<String> = used
                .iter()
                .map(|(name, ns)| (name, seconds(*ns) * scale(&row.load) / count))
                .filter(|(_, cost)| *cost >= 0.05)
                .map(|(name, cost)| format!("{name} {cost:.1}"))
                .collect();
            if !parts.is_empty() {
                let (name, label, unit) = (&row.name, subject.label(), row.load.unit());
                writeln!(text, "- {name} {label}, {unit} by thread: {}", parts.join(", "))?;
            }
        }
        Ok(())
    }
}

fn timed(cell: &Cell) -> Option<&Sample> {
    match cell {
        Cell::Timed(sample) => Some(sample),
        Cell::Idle(_) => None,
    }
}

/// CPU of a cell in its row's unit, or anonymous bytes per idle connection. None without a proxy.
fn cost(cell: &Cell, load: &Load) -> Option<f64> {
    match cell {
        Cell::Timed(sample) if sample.cpu_ns.is_empty() => None,
        Cell::Timed(sample) => Some(cpu_s(sample) * scale(load) / sample.count),
        Cell::Idle(growth) => {
            let bytes = growth.per_connection(|memory| memory.anon);
            Some(f64::from(i32::try_from(bytes).unwrap_or(i32::MAX)))
        }
    }
}

/// From CPU seconds over count to the row's unit: us each, or ms per GB.
pub(crate) fn scale(load: &Load) -> f64 {
    if load.is_bulk() { 1e12 } else { 1e6 }
}

/// CPU seconds of the proxy.
pub(crate) fn cpu_s(sample: &Sample) -> f64 {
    seconds(sample.cpu_ns.values().sum())
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

/// Nanoseconds in microseconds.
pub(crate) fn micros(ns: u64) -> f64 {
    seconds(ns) * 1e6
}

/// Median, least and most.
pub(crate) fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some((f64::midpoint(lower, upper), *sorted.first()?, *sorted.last()?))
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(cores);
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let date = date.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    format!(
        "{}: {}, {online} cores, Linux {}.",
        date.unwrap_or_default(),
        model.unwrap_or("unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

fn command() -> String {
    let mut arguments: Vec<String> =
        std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // Where Envoy was found is the script's business, not part of what a reader types.
    if let Some(at) = arguments.iter().position(|arg| arg == "--envoy") {
        arguments.drain(at..(at + 2).min(arguments.len()));
    }
    format!("`scripts/bench.sh load {}`", arguments.join(" ").trim())
}
