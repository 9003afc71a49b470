//! Drives a live gateway and its peers side by side, in one run, and prints one table.
//!
//! One proxy core, one core for load and upstream. Every subject (the gateway bare, the gateway with
//! everything on, HAProxy, nginx, Envoy, and no proxy at all) is a child process on free loopback
//! ports with a generated configuration of equal features. A cell is one row of the table on one
//! subject; cells run in interleaved rounds, so that a noisy minute hits all subjects alike.
//! CPU comes from the kernel's own run time of the proxy's threads, never from wall time.

mod args;
mod caller;
mod drive;
mod gateway;
mod idle;
mod loops;
mod material;
mod peers;
mod process;
mod report;
mod rows;
mod upstream;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::Args;
use clap::Parser;
use process::Running;
use report::{Cell, Report};
use rows::{Row, Subject};

/// Any failure, with its text for the terminal.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if std::env::args_os().len() < 2 {
        // `cargo test --all-targets` runs every bench binary; minutes of load are not a test.
        eprintln!("load: started without arguments, nothing to do (scripts/bench.sh runs it)");
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        let work = run(args, &rows, &material, &upstream);
        // The children are ended with the run, so a signal must end it in order.
        let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(signals)?;
        let handle = signals.handle();
        let told = tokio::task::spawn_blocking(move || signals.forever().next());
        let done = tokio::select! {
            done = work => done,
            _ = told => Err("ended by a signal".into()),
        };
        handle.close();
        done
    })?;
    println!("{}", report.markdown());
    Ok(())
}

/// One started subject: where it listens and its process (none for the direct path).
struct Live {
    subject: Subject,
    target: drive::Target,
    process: Option<Running>,
}

async fn run(
    args: &Args,
    rows: &[Row],
    material: &material::Material,
    upstream: &upstream::Addresses,
) -> Outcome<Report> {
    let mut report = Report::new(args);
    let mut live = Vec::new();
    for subject in args.subjects()? {
        if !rows.iter().any(|row| !row.load.is_idle() && row.runs(subject)) {
            continue;
        }
        match bring_up(args, subject, material, upstream, rows).await {
            Ok(one) => {
                report.version(subject, args);
                live.push(one);
            }
            Err(error) => {
                eprintln!("load: {}: {error}", subject.label());
                report.note(format!("{} left out: {error}", subject.label()));
            }
        }
    }
    let timed: Vec<&Row> = rows.iter().filter(|row| !row.load.is_idle()).collect();
    let cells: usize =
        timed.iter().map(|row| live.iter().filter(|l| row.runs(l.subject)).count()).sum();
    let plan = args.timing(cells);
    let deadline = Instant::now() + plan.bound(cells);
    eprintln!("load: {cells} cells x {} rounds of {:?}", plan.rounds, plan.measure);
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
                    return Err("the time bound of the whole run is over".into());
                }
                eprint!("\rload: {:<24} round {} {:<20}", row.name, round + 1, one.subject.label());
                let pid = one.process.as_ref().map(Running::pid);
                match drive::cell(&row.load, row.tls, &one.target, pid, &plan).await {
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
    drop(live);
    for row in rows.iter().filter(|row| row.load.is_idle()) {
        for subject in args.subjects()? {
            if subject == Subject::Direct || !row.runs(subject) {
                continue;
            }
            eprint!("\rload: {:<24} {:<28}", row.name, subject.label());
            // A fresh process: what earlier rows left in its heap would hide the growth.
            let measured = async {
                let one = bring_up(args, subject, material, upstream, rows).await?;
                let pid = one.process.as_ref().map(Running::pid).ok_or("no process")?;
                let work = idle::cell(&row.load, row.tls, &one.target, pid);
                tokio::time::timeout(Duration::from_secs(60), work).await?
            };
            match measured.await {
                Ok(growth) => {
                    report.version(subject, args);
                    report.push(row, subject, 0, Cell::Idle(growth));
                }
                Err(error) => {
                    report.give_up(row, subject, error.to_string());
                    eprintln!("\nload: {} {}: {error}", row.name, subject.label());
                }
            }
        }
    }
    eprintln!();
    report.sample_load();
    Ok(report)
}

/// Starts one subject and proves that it answers right before anything is measured.
async fn bring_up(
    args: &Args,
    subject: Subject,
    material: &material::Material,
    upstream: &upstream::Addresses,
    rows: &[Row],
) -> Outcome<Live> {
    let (process, mut target) = match subject {
        Subject::Direct => (None, drive::Target::direct(upstream, material)),
        Subject::GatewayBare | Subject::GatewayFull => {
            let l4 = rows.iter().any(|row| row.load.is_l4());
            let full = subject == Subject::GatewayFull;
            let (process, target) = gateway::start(args, full, l4, material, upstream)?;
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
