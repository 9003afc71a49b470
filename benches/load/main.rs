//! Drives a live gateway and its peers side by side, in one run, and prints one table.
//!
//! One proxy core, one core for load and upstream. Every subject (the gateway bare, the gateway with
//! everything on, HAProxy, nginx, Envoy, and no proxy at all) is a child process on free loopback
//! ports with a generated configuration of equal features. A cell is one row of the table on one
//! subject; cells run in interleaved rounds, so that a noisy minute hits all subjects alike.
//! CPU comes from the kernel's own run time of the proxy's threads, never from wall time.
//! The rows of PostgreSQL have subjects of their own (see [`postgres`]).
//! Behind the timed cells come the memory rows, each on a fresh process, and the allocation rows,
//! on a gateway that counts (see [`counted`]).

mod account;
mod allocations;
#[path = "../../tests/allocations/allocator.rs"]
mod allocator;
mod args;
mod caller;
mod counted;
mod drive;
mod gateway;
mod held;
mod idle;
mod loops;
mod material;
mod peers;
mod postgres;
mod process;
mod report;
mod rows;
mod site;
mod upstream;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::{Args, Timing};
use clap::Parser;
use drive::Sample;
use process::Running;
use report::{Cell, Report};
use rows::{Family, Load, Row, Subject};

/// Any failure, with its text for the terminal.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Some(code) = counted::run() {
        return code;
    }
    if std::env::args_os().len() < 2 {
        // `cargo test --all-targets` runs every bench binary; minutes of load are not a test.
        eprintln!("load: started without arguments, nothing to do (scripts/bench.sh runs it)");
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    if args.list {
        args.every_row().iter().for_each(|row| println!("{}", row.name));
        return ExitCode::SUCCESS;
    }
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(args: &Args) -> Outcome<()> {
    let rows = args.rows()?;
    process::pin_self(args.load_core)?;
    let material = material::Material::make(rows.iter().any(|row| row.load.is_l4()))?;
    let upstream = upstream::start(&material)?;
    let mut report = Report::new(args);
    if let Some(doubt) = process::doubt_of_disk(material.directory()) {
        eprintln!("load: {doubt}");
        report.note(doubt);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let done = local.block_on(&runtime, async {
        let stage = Stage { args, rows: &rows, material: &material, upstream: &upstream };
        // The children are ended with the run, so a signal must end it in order.
        let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(signals)?;
        let handle = signals.handle();
        let told = tokio::task::spawn_blocking(move || signals.forever().next());
        let done = tokio::select! {
            done = run(&stage, &mut report) => done,
            _ = told => Err("ended by a signal".into()),
        };
        handle.close();
        done
    });
    eprintln!();
    if let Err(error) = &done {
        // Half an hour of figures is not thrown away with the rounds that are missing.
        report.note(format!("not the whole run: {error}"));
    }
    println!("{}", report.markdown());
    done
}

/// What all cells of a run share.
struct Stage<'r> {
    args: &'r Args,
    rows: &'r [Row],
    material: &'r material::Material,
    upstream: &'r upstream::Addresses,
}

impl Stage<'_> {
    /// The subjects that timed rows of a family need.
    fn taking_part(&self, family: Family) -> Outcome<Vec<Subject>> {
        let rows = || self.rows.iter().filter(|row| row.load.is_timed());
        let rows = || rows().filter(|row| row.load.family() == family);
        let subjects = self.args.subjects()?.into_iter();
        Ok(subjects.filter(|subject| rows().any(|row| row.runs(*subject))).collect())
    }
}

/// One started subject: where it listens and its process (none for the direct path).
struct Live<T> {
    subject: Subject,
    target: T,
    process: Option<Running>,
}

impl<T> Live<T> {
    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Running::pid)
    }
}

async fn run(stage: &Stage<'_>, report: &mut Report) -> Outcome<()> {
    let mut live = Vec::new();
    for subject in stage.taking_part(Family::Http)? {
        let started = bring_up(stage, subject, None).await;
        live.extend(report.started(subject, stage.args, started));
    }
    timed(stage, Family::Http, &live, report, async |row, one, plan| {
        drive::cell(&row.load, row.tls, &one.target, one.pid(), plan).await
    })
    .await?;
    drop(live);
    if stage.rows.iter().any(|row| row.load.family() == Family::Postgres) {
        databases(stage, report).await?;
    }
    for row in stage.rows.iter().filter(|row| !row.load.is_timed()) {
        for subject in stage.args.subjects()? {
            if subject == Subject::Direct || !row.runs(subject) {
                continue;
            }
            eprint!("\rload: {:<24} {:<28}", row.name, subject.label());
            let measured = match row.load {
                Load::Held { .. } => held(stage, row, subject, report).await,
                Load::Count { .. } => count(stage, row, subject, report).await,
                _ => idle(stage, row, subject, report).await,
            };
            if let Err(error) = measured {
                report.give_up(row, subject, error.to_string());
                eprintln!("\nload: {} {}: {error}", row.name, subject.label());
            }
        }
    }
    report.sample_load();
    Ok(())
}

/// The rows of PostgreSQL. The server outlives the subjects in front of it.
async fn databases(stage: &Stage<'_>, report: &mut Report) -> Outcome<()> {
    let Stage { args, material, .. } = *stage;
    let server = match postgres::Server::start(args).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("load: PostgreSQL: {error}");
            report.note(format!("the rows of PostgreSQL left out: {error}"));
            return Ok(());
        }
    };
    report.versions(server.version());
    let mut live = Vec::new();
    for subject in stage.taking_part(Family::Postgres)? {
        let started = postgres::bring_up(args, subject, material, &server).await;
        let started = started.map(|(process, target)| Live { subject, target, process });
        live.extend(report.started(subject, args, started));
    }
    let program = server.program("pgbench");
    timed(stage, Family::Postgres, &live, report, async |row, one, plan| match row.load {
        Load::Pgbench { mode, clients } => {
            let load = (mode, clients);
            postgres::pgbench(load, &program, args.load_core, &one.target, one.pid(), plan).await
        }
        Load::Result { rows } => postgres::result(rows, &one.target, one.pid()).await,
        _ => Err("this row is not of PostgreSQL".into()),
    })
    .await
}

/// The timed cells: row by row, round by round, each subject in turn.
async fn timed<T>(
    stage: &Stage<'_>,
    family: Family,
    live: &[Live<T>],
    report: &mut Report,
    measure: impl AsyncFn(&Row, &Live<T>, &Timing) -> Outcome<Option<Sample>>,
) -> Outcome<()> {
    let timed = stage.rows.iter().filter(|row| row.load.is_timed());
    let timed: Vec<&Row> = timed.filter(|row| row.load.family() == family).collect();
    let cells: usize =
        timed.iter().map(|row| live.iter().filter(|l| row.runs(l.subject)).count()).sum();
    if cells == 0 {
        return Ok(());
    }
    let plan = match family {
        Family::Http => stage.args.timing(cells),
        Family::Postgres => stage.args.timing(cells).whole_seconds(),
    };
    let bound = plan.bound(cells);
    let deadline = Instant::now() + bound;
    eprintln!(
        "load: {cells} cells x {} rounds of {:.1?}: about {}, at most {}",
        plan.rounds,
        plan.measure,
        minutes(plan.plan(cells)),
        minutes(bound)
    );
    for row in &timed {
        for round in 0..plan.rounds {
            report.sample_load();
            // Each round starts one subject further: no subject is always the first after a pause.
            for step in 0..live.len() {
                let Some(one) = live.get((step + round) % live.len()) else { continue };
                if !row.runs(one.subject) || report.gave_up(row, one.subject) {
                    continue;
                }
                if Instant::now() > deadline {
                    return Err(format!("its bound of {} is over", minutes(bound)).into());
                }
                eprint!("\rload: {:<24} round {} {:<20}", row.name, round + 1, one.subject.label());
                match measure(row, one, &plan).await {
                    Ok(Some(sample)) => {
                        report.push(row, one.subject, round, Cell::Timed(Box::new(sample)));
                    }
                    Ok(None) => {
                        let (name, label) = (&row.name, one.subject.label());
                        report.note(format!(
                            "{name} {label}: nothing answered in round {}",
                            round + 1
                        ));
                    }
                    Err(error) => {
                        report.give_up(row, one.subject, error.to_string());
                        eprintln!("\nload: {} {}: {error}", row.name, one.subject.label());
                    }
                }
            }
        }
    }
    Ok(())
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// A memory row: on a fresh process, since what earlier rows left in its heap would hide the growth.
async fn idle(stage: &Stage<'_>, row: &Row, subject: Subject, report: &mut Report) -> Outcome<()> {
    let one = bring_up(stage, subject, None).await?;
    let pid = one.pid().ok_or("no process")?;
    let work = idle::cell(&row.load, row.tls, &one.target, pid);
    let growth = tokio::time::timeout(Duration::from_secs(60), work).await??;
    report.version(subject, stage.args);
    report.push(row, subject, 0, Cell::Idle(growth));
    Ok(())
}

/// A row of held requests: on a gateway that has nothing else to do.
async fn held(stage: &Stage<'_>, row: &Row, subject: Subject, report: &mut Report) -> Outcome<()> {
    let one = bring_up(stage, subject, None).await?;
    let pid = one.pid().ok_or("no process")?;
    let timing = stage.args.timing(2);
    let work = held::cell(&row.load, &one.target, pid, stage.material, &timing);
    let bound = timing.bound(2) + HELD_MAX;
    let measured =
        tokio::time::timeout(bound, work).await.map_err(|_| "it did not end in time")??;
    report.version(subject, stage.args);
    report.held(row, subject, measured);
    Ok(())
}

/// An allocation row: on a gateway that counts, which no timed cell ever sees.
async fn count(stage: &Stage<'_>, row: &Row, subject: Subject, report: &mut Report) -> Outcome<()> {
    let socket = stage.material.path(&format!("counts-{}-{}", row.name, subject.name()));
    let one = bring_up(stage, subject, Some(&socket)).await?;
    let allocated = allocations::cell(&row.load, row.tls, &one.target, &socket).await?;
    report.version(subject, stage.args);
    report.counted(row, subject, allocated);
    Ok(())
}

/// Starts one subject and proves that it answers right before anything is measured.
/// With `counts` a gateway counts its allocations and tells them on that socket.
async fn bring_up(
    stage: &Stage<'_>,
    subject: Subject,
    counts: Option<&Path>,
) -> Outcome<Live<drive::Target>> {
    let Stage { args, rows, material, upstream } = *stage;
    let (process, mut target) = match subject {
        Subject::Direct => (None, drive::Target::direct(upstream, material)),
        Subject::GatewayBare | Subject::GatewayFull => {
            let l4 = rows.iter().any(|row| row.load.is_l4());
            let full = subject == Subject::GatewayFull;
            let (process, target) = gateway::start(args, full, l4, counts, material, upstream)?;
            (Some(process), target)
        }
        _ => {
            let (process, target) = peers::start(args, subject, material, upstream)?;
            (Some(process), target)
        }
    };
    if let Some(process) = &process {
        process.wait_ready(&target.listening(), Duration::from_secs(20)).await?;
    }
    let tls = rows.iter().any(|row| row.tls && !row.load.is_l4());
    let ready = drive::probe(&mut target, subject == Subject::GatewayFull, tls).await;
    if let (Err(error), Some(process)) = (&ready, &process) {
        return Err(format!("{error}; its log ends: {}", process.log_tail()).into());
    }
    ready?;
    Ok(Live { subject, target, process })
}

/// What holding and approving may take beside the timed cells.
const HELD_MAX: Duration = Duration::from_secs(300);
