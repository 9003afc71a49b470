//! The command line: one file for each subcommand, and the acts that concern the whole process.
//!
//! Exit codes: 0 yes; 1 a negative answer (config errors, damage found, denied, a failed case);
//! 2 usage, or it could not run.

pub mod cert;
pub mod check;
pub mod demo;
pub mod policy;
pub mod process;
pub mod serve;
pub mod sessions;
pub mod token;
pub mod verify;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// The gateway between an identity and a resource.
#[derive(Debug, Parser)]
#[command(name = "weirgate", version, about, propagate_version = true)]
struct Cli {
    /// What to log, as in RUST_LOG: `info`, `weirgate=debug`, ...
    #[arg(long, global = true, env = "RUST_LOG", default_value = "info")]
    log: String,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a command finds the record.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The gateway's config; its `data_dir` is used.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory itself.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (SIGHUP reloads, SIGTERM drains).
    #[command(after_help = "Example: weirgate serve -c gateway.toml")]
    Serve {
        /// The config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Compile everything and print errors with file:line; exit 1 when there are any.
    #[command(after_help = "Example: weirgate check -c gateway.toml")]
    Check {
        /// The config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// A dev issuer, a stand-in provider, the gateway and a guided tour; stays up to be used.
    #[command(after_help = "Example: weirgate demo --upstream https://api.openai.com")]
    Demo(demo::Options),
    /// A development CA and certificate.
    #[command(after_help = "Example: weirgate cert dev --dir certs --name gw.example.com")]
    Cert {
        #[command(subcommand)]
        act: CertAct,
    },
    /// Tokens of the dev issuer, and why a token is refused.
    #[command(after_help = "Example: weirgate token inspect -c gateway.toml < token.txt")]
    Token {
        #[command(subcommand)]
        act: token::Act,
    },
    /// Why a request is permitted or not, and the rule file's own cases.
    #[command(after_help = "Example: weirgate policy test -c gateway.toml")]
    Policy {
        #[command(subcommand)]
        act: policy::Act,
    },
    /// List, show and replay recorded sessions.
    #[command(after_help = "Example: weirgate sessions list -c gateway.toml --json")]
    Sessions {
        #[command(subcommand)]
        act: sessions::Act,
    },
    /// Prove the record: chain, signatures, gaps; names the first bad entry.
    #[command(after_help = "Example: weirgate verify data")]
    Verify(verify::Options),
}

#[derive(Debug, Subcommand)]
enum CertAct {
    /// Make them.
    Dev(cert::Options),
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let quiet = !matches!(cli.command, Command::Serve { .. });
    if let Err(error) = log(&cli.log, cli.log_format, quiet) {
        eprintln!("weirgate: --log {}: {error}", cli.log);
        return ExitCode::from(2);
    }
    match cli.command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config, json } => check::run(&config, json),
        Command::Demo(options) => demo::run(options),
        Command::Cert { act: CertAct::Dev(options) } => cert::run(&options),
        Command::Token { act } => token::run(act),
        Command::Policy { act } => policy::run(act),
        Command::Sessions { act } => sessions::run(act),
        Command::Verify(options) => verify::run(&options),
    }
}

/// Sets the log up, to stderr. Commands that print answers log warnings only, unless asked.
fn log(filter: &str, format: LogFormat, quiet: bool) -> Result<(), String> {
    let filter = if quiet && filter == "info" { "warn" } else { filter };
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|e| e.to_string())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    done.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
//! The commands, one file each.

pub mod sessions;
pub mod verify;
