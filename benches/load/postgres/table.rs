//! The table of the PostgreSQL rows: rates and CPU, each by the side of direct and of PgBouncer.

use std::fmt::{self, Write};

use crate::drive::Sample;
use crate::report::{Rounds, cpu_s, micros, scale, spread};
use crate::rows::{Load, Mode, Row, Subject};

/// One row: what each round gave on each subject.
pub(crate) struct Line<'r> {
    pub(crate) row: &'r Row,
    pub(crate) subject: Subject,
    pub(crate) mine: Rounds<'r>,
    pub(crate) direct: Rounds<'r>,
    pub(crate) bouncer: Rounds<'r>,
}

/// Prints all lines; ratios only if they are to be trusted.
///
/// # Errors
/// None: a string takes what it is given.
pub(crate) fn write(text: &mut String, lines: &[Line<'_>], trusted: bool) -> fmt::Result {
    writeln!(
        text,
        "| row | subject | per second, median (min-max) | x direct | x PgBouncer | CPU, median \
         (min-max) | x PgBouncer | target | core % | p50 us | p99 us | MB RSS before / after \
         (anon) |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for line in lines {
        line.write(text, trusted)?;
    }
    writeln!(
        text,
        "\nPostgreSQL and its client on the load core, the proxy alone on its own, all plain text on \
         loopback. Per second: what pgbench says, its first second and its logins left out. CPU: run \
         time of all threads of the proxy in the same seconds. Ratios are medians of the rounds' \
         ratios; targets are for the ratio of CPU to PgBouncer's, and of the big result for its rate \
         to direct. p50 and p99: of the tenth of the transactions that pgbench writes down. In \
         `simple` each statement is another text, which no cache knows. Toward callers all ask for a \
         password in clear text (PgBouncer: auth_type = plain); both proxies log in by SCRAM-SHA-256. \
         PgBouncer: pool_mode = session and Debian's defaults. bare: one rule, record of metadata; \
         full: 1,000 rules, full record, no mask on columns. Big result: the most memory that was \
         seen while it ran."
    )
}

impl Line<'_> {
    fn write(&self, text: &mut String, trusted: bool) -> fmt::Result {
        let load = &self.row.load;
        let rate = |sample: &Sample| Some(sample.count / sample.wall.as_secs_f64());
        let cost = |sample: &Sample| {
            (!sample.cpu_ns.is_empty()).then(|| cpu_s(sample) * scale(load) / sample.count)
        };
        let ratio = |of: &dyn Fn(&Sample) -> Option<f64>, to: &Rounds<'_>| {
            let ratios = self.mine.iter().filter_map(|(round, mine)| {
                let other = to.get(round)?;
                Some(of(mine)? / of(other)?).filter(|ratio| ratio.is_finite())
            });
            match spread(&ratios.collect::<Vec<f64>>()) {
                Some((median, least, most)) if trusted => {
                    format!("{median:.2} ({least:.2}-{most:.2})")
                }
                _ => "-".to_owned(),
            }
        };
        let (rates, costs): (Vec<f64>, Vec<Option<f64>>) =
            self.mine.values().filter_map(|sample| Some((rate(sample)?, cost(sample)))).unzip();
        let (row, label) = (&self.row.name, self.subject.label());
        write!(text, "| {row} | {label} | {} |", told(&rates, load))?;
        let proxied = self.subject != Subject::Direct;
        let compared = self.subject.is_gateway();
        let or = |on: bool, text: String| if on { text } else { "-".to_owned() };
        write!(text, " {} |", or(proxied, ratio(&rate, &self.direct)))?;
        write!(text, " {} |", or(compared, ratio(&rate, &self.bouncer)))?;
        let costs: Vec<f64> = costs.into_iter().flatten().collect();
        let cpu = spread(&costs).map_or("-".to_owned(), |(median, least, most)| {
            format!("{median:.1} ({least:.1}-{most:.1}) {}", load.unit())
        });
        write!(text, " {cpu} | {} |", or(compared, ratio(&cost, &self.bouncer)))?;
        write!(text, " {} |", target(load, self.subject))?;
        let used = self.mine.values().map(|s| 100.0 * cpu_s(s) / s.wall.as_secs_f64());
        let used = spread(&used.collect::<Vec<f64>>()).map_or(0.0, |(median, ..)| median);
        write!(text, " {} |", or(proxied, format!("{used:.0}")))?;
        let latency =
            self.mine.values().map(|sample| &sample.latency).cloned().reduce(|mut a, b| {
                // The same bounds: nothing is lost.
                let _ = a.add(b);
                a
            });
        for q in [0.5, 0.99] {
            let told = latency.as_ref().filter(|all| !all.is_empty());
            let told = told.map(|all| format!("{:.0}", micros(all.value_at_quantile(q))));
            write!(text, " {} |", told.unwrap_or("-".to_owned()))?;
        }
        let mb = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0;
        let memory = self.mine.values().last().map_or("-".to_owned(), |sample| {
            let (before, after) = (sample.memory_before, sample.memory);
            let (rss, most) = (mb(before.rss), mb(after.rss));
            format!("{rss:.1} / {most:.1} ({:.1} / {:.1})", mb(before.anon), mb(after.anon))
        });
        writeln!(text, " {} |", or(proxied, memory))
    }
}

/// Transactions, or bytes.
fn told(rates: &[f64], load: &Load) -> String {
    match spread(rates) {
        None => "-".to_owned(),
        Some((median, least, most)) if load.is_bulk() => {
            format!("{:.0} ({:.0}-{:.0}) MB", median / 1e6, least / 1e6, most / 1e6)
        }
        Some((median, least, most)) => format!("{median:.0} ({least:.0}-{most:.0})"),
    }
}

/// What was set as the aim.
fn target(load: &Load, subject: Subject) -> &'static str {
    match (load, subject) {
        (Load::Pgbench { .. }, Subject::GatewayBare) => "CPU <= 0.85",
        // A text that no cache knows.
        (Load::Pgbench { mode: Mode::Simple, .. }, Subject::GatewayFull) => "CPU <= 1.00 + 8 us",
        (Load::Pgbench { .. }, Subject::GatewayFull) => "CPU <= 1.00",
        (Load::Result { .. }, Subject::GatewayFull) => "rate >= 0.60",
        _ => "-",
    }
}
