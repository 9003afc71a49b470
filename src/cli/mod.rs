//! The command line: one file for each subcommand, and the acts that concern the whole process.
//!
//! Exit codes: 0 yes; 1 a negative answer (config errors, damage found, denied, a failed case);
//! 2 usage, or it could not run.

pub mod approvals;
pub mod cert;
pub mod check;
pub mod demo;
pub mod mask;
pub mod policy;
pub mod process;
pub mod serve;
pub mod sessions;
pub mod source;
pub mod token;
pub mod verify;
pub mod webhooks;

use clap::{Args, Parser, Subcommand, ValueEnum};
use source::System;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// The gateway between an identity and a resource.
#[derive(Debug, Parser)]
#[command(name = "weirgate", version, about, propagate_version = true)]
struct Cli {
    /// What to log: `info`, `weirgate=debug`, ...; RUST_LOG when it is not given.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a command finds the record.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
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
    #[command(after_help = "Example: weirgate check -c gateway.toml\n         \
        weirgate check -c gateway.toml --connect")]
    Check {
        /// The config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Log in to each postgres resource as the gateway would, which opens the secrets of its
        /// credentials, and look for every masked column in its database.
        #[arg(long)]
        connect: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// A dev issuer, a stand-in provider, the gateway and a guided tour; stays up to be used.
    #[command(after_help = "Example: weirgate demo --upstream https://api.openai.com")]
    Demo(demo::Options),
    /// A development CA and certificate.
    #[command(after_help = "Example: weirgate cert dev --dir certs --name gw.example.com")]
    Cert(cert::Cert),
    /// Tokens of the dev issuer, and why a token is refused.
    #[command(after_help = "Example: weirgate token inspect -c gateway.toml < token.txt")]
    Token {
        #[command(subcommand)]
        act: TokenAct,
    },
    /// Why a request is permitted or not, and the rule file's own cases.
    #[command(after_help = "Example: weirgate policy test -c gateway.toml")]
    Policy {
        #[command(subcommand)]
        act: PolicyAct,
    },
    /// What makes column masks hold in the database itself.
    #[command(after_help = "Example: weirgate mask grants -c gateway.toml > grants.sql")]
    Mask {
        #[command(subcommand)]
        act: MaskAct,
    },
    /// List, show and replay recorded sessions.
    #[command(after_help = "Example: weirgate sessions list -c gateway.toml --json")]
    Sessions {
        #[command(subcommand)]
        act: SessionsAct,
    },
    /// Requests that wait for a person: look at them, approve them, deny them.
    #[command(after_help = "Example: WEIRGATE_TOKEN=$(my-login) weirgate approvals list \
        -c gateway.toml --state pending")]
    Approvals {
        #[command(subcommand)]
        act: ApprovalsAct,
    },
    /// What was approved and can be used: list it, take it back.
    #[command(after_help = "Example: weirgate grants revoke -c gateway.toml --caller ana \
        --reason 'laptop lost' --token-file admin.token")]
    Grants {
        #[command(subcommand)]
        act: GrantsAct,
    },
    /// Notices of approvals: how they get on, and what could not be delivered.
    #[command(after_help = "Example: weirgate webhooks list -c gateway.toml \
        --token-file admin.token")]
    Webhooks {
        #[command(subcommand)]
        act: WebhooksAct,
    },
    /// Prove the record: chain, signatures, gaps; names the first bad entry. Exit 1 on damage.
    #[command(after_help = "Example: weirgate verify data")]
    Verify {
        /// The data directory.
        #[arg(value_name = "DIR", required_unless_present_any = ["config", "data"])]
        dir: Option<PathBuf>,
        /// The gateway's config; its `data_dir` is used.
        #[arg(short, long, value_name = "FILE", conflicts_with_all = ["dir", "data"])]
        config: Option<PathBuf>,
        /// The data directory, as in other commands.
        #[arg(long, value_name = "DIR", conflicts_with = "dir")]
        data: Option<PathBuf>,
        /// A public key to trust in place of the directory's own; may be given several times.
        #[arg(long = "key", value_name = "FILE")]
        keys: Vec<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Which gateway is asked, and by whom.
#[derive(Clone, Debug, Args)]
struct Reach {
    /// The gateway's config; its `[admin] address` is asked.
    #[arg(short, long, value_name = "FILE", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// The admin surface itself: https, or http on a loopback address.
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    admin: Option<String>,
    /// Your token of the admin issuer, in a file; without it that of WEIRGATE_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl From<Reach> for approvals::Reach {
    fn from(reach: Reach) -> Self {
        let Reach { config, admin, token_file, json } = reach;
        Self { config, admin, token_file, json }
    }
}

#[derive(Debug, Subcommand)]
enum ApprovalsAct {
    /// One line for each request, the newest first.
    #[command(
        after_help = "Example: weirgate approvals list -c gateway.toml --state pending --json"
    )]
    List {
        #[command(flatten)]
        reach: Reach,
        /// pending, approved, active, denied, expired, cancelled, consumed, revoked; several with
        /// commas between them.
        #[arg(long, value_name = "STATES")]
        state: Option<String>,
        /// Only what was done under break-glass and nobody has looked at.
        #[arg(long)]
        review_owed: bool,
    },
    /// A link that signs a browser in as you: for two minutes, and once.
    #[command(after_help = "Example: weirgate approvals open -c gateway.toml \
        --token-file my.token")]
    Open {
        #[command(flatten)]
        reach: Reach,
    },
    /// Everything about one request, with the digest that a vote is about.
    #[command(after_help = "Example: weirgate approvals show 3f0c... -c gateway.toml\n\n\
        Exit 1 where there is no such request.")]
    Show {
        #[command(flatten)]
        reach: Reach,
        /// The request's id.
        id: String,
    },
    /// Approve a request. Nobody approves their own.
    #[command(after_help = "Example: weirgate approvals approve 3f0c... -c gateway.toml \
        --reason 'ticket 4711'\n\nExit 1 where the vote does not count.")]
    Approve(Cast),
    /// Deny a request; one denial ends it.
    #[command(after_help = "Example: weirgate approvals deny 3f0c... -c gateway.toml \
        --reason 'not on a Friday'\n\nExit 1 where the vote does not count.")]
    Deny(Cast),
    /// Show the summary with nothing masked, where the rule lets your groups; it is written down.
    #[command(after_help = "Example: weirgate approvals reveal 3f0c... -c gateway.toml")]
    Reveal(OfOne),
    /// Show what the same caller had approved before.
    #[command(after_help = "Example: weirgate approvals before 3f0c... -c gateway.toml")]
    Before(OfOne),
    /// Show what the database says that a held statement would touch, where the rule asks for it.
    #[command(after_help = "Example: weirgate approvals estimate 3f0c... -c gateway.toml")]
    Estimate(OfOne),
    /// Mark what was done under break-glass as looked at, by somebody other than its caller.
    #[command(
        after_help = "Example: weirgate approvals review 3f0c... -c gateway.toml --reason fine"
    )]
    Review {
        #[command(flatten)]
        reach: Reach,
        /// The request's id.
        id: String,
        /// What you say of it.
        #[arg(long)]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
struct OfOne {
    #[command(flatten)]
    reach: Reach,
    /// The request's id.
    id: String,
}

#[derive(Debug, Args)]
struct Cast {
    #[command(flatten)]
    reach: Reach,
    /// The request's id.
    id: String,
    /// Why; some rules want one.
    #[arg(long)]
    reason: Option<String>,
    /// The digest that `show` told, so that the vote counts for nothing else. Without it the
    /// request is shown, and the vote is about that.
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
}

#[derive(Debug, Subcommand)]
enum GrantsAct {
    /// One line for each grant with uses left.
    #[command(after_help = "Example: weirgate grants list -c gateway.toml")]
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Take grants and pending requests back; what runs under them ends.
    #[command(after_help = "Example: weirgate grants revoke -c gateway.toml --resource orders\n\n\
        Exit 1 where there is nothing to take back, or the token may not.")]
    Revoke(Back),
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["id", "caller", "resource", "all"])]
struct Back {
    #[command(flatten)]
    reach: Reach,
    /// This one.
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// All of this subject.
    #[arg(long, value_name = "SUB")]
    caller: Option<String>,
    /// Of this issuer only.
    #[arg(long, value_name = "ISS", requires = "caller")]
    iss: Option<String>,
    /// All for this resource.
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// All that there are.
    #[arg(long)]
    all: bool,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum WebhooksAct {
    /// One line for each webhook: delivered, failed, queued, dead, the last error.
    #[command(after_help = "Example: weirgate webhooks list -c gateway.toml --json")]
    List {
        #[command(flatten)]
        reach: Reach,
    },
    /// Notices that are not sent any more, the newest first.
    #[command(after_help = "Example: weirgate webhooks dead -c gateway.toml")]
    Dead {
        #[command(flatten)]
        reach: Reach,
    },
    /// Send one of them again.
    #[command(after_help = "Example: weirgate webhooks retry msg_3f0c... -c gateway.toml\n\n\
        Exit 1 where there is no such dead letter.")]
    Retry {
        #[command(flatten)]
        reach: Reach,
        /// Its id.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum TokenAct {
    /// Mint a token with a dev issuer's key (`weirgate demo` keeps one as `issuer.p8`).
    Mint(token::Mint),
    /// Read a token from standard input and print every check, and which profile would fit.
    Inspect {
        /// The gateway's config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// A key set file, for issuers whose keys come over the network.
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum MaskAct {
    /// Print the SQL that takes the masked columns from the gateway's role, and leaves it the others.
    #[command(after_help = "Example: weirgate mask grants -c gateway.toml --mask pii > grants.sql")]
    Grants {
        /// The config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Only the columns of this mask.
        #[arg(long, value_name = "NAME")]
        mask: Option<String>,
        /// The role; without: those of the credentials of postgres resources.
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyAct {
    /// The decision, the rule that made it, and for a denial the nearest rule that allows.
    #[command(after_help = "Example: weirgate policy explain -c gateway.toml --sub ana \
        --group analysts --resource openai --method POST --path /v1/chat/completions --model gpt-4")]
    Explain(Box<Explain>),
    /// Run every `[[case]]` of the config; exit 1 when one fails.
    Test {
        /// The config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Explain {
    /// The config.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Issuer, by name or by `iss`; may be left out where there is one only.
    #[arg(long)]
    iss: Option<String>,
    /// Subject.
    #[arg(long)]
    sub: Option<String>,
    /// A group; may be given several times.
    #[arg(long = "group")]
    groups: Vec<String>,
    /// OAuth client.
    #[arg(long)]
    client_id: Option<String>,
    /// An actor, the current one first; may be given several times.
    #[arg(long = "actor")]
    actors: Vec<String>,
    /// Node of a graph that the caller says it runs.
    #[arg(long)]
    node: Option<String>,
    /// Run that it says it is.
    #[arg(long)]
    run: Option<String>,
    /// Thread that it says it belongs to.
    #[arg(long)]
    thread: Option<String>,
    /// Resource, by name. Not needed with `--request`.
    #[arg(long, required_unless_present = "request")]
    resource: Option<String>,
    /// Request method.
    #[arg(long)]
    method: Option<String>,
    /// Path after the resource segment.
    #[arg(long)]
    path: Option<String>,
    /// Model.
    #[arg(long)]
    model: Option<String>,
    /// The model, or the table of a statement, is there and cannot be read.
    #[arg(long)]
    unreadable: bool,
    /// Kind of statement, of a database: select, insert, ...
    #[arg(long, value_name = "KIND")]
    statement: Option<String>,
    /// Table that the statement touches.
    #[arg(long, value_name = "SCHEMA.NAME")]
    table: Option<String>,
    /// What it does with the table: read or write; without, what its kind does most.
    #[arg(long)]
    access: Option<String>,
    /// A column that it names, of the table; may be given several times.
    #[arg(long = "column", value_name = "SCHEMA.TABLE.NAME")]
    columns: Vec<String>,
    /// A function that it calls, `name` or `schema.name`; may be given several times. It counts
    /// as one that does more than to give a result.
    #[arg(long = "function", value_name = "NAME")]
    functions: Vec<String>,
    /// It changes or deletes without a WHERE.
    #[arg(long)]
    missing_where: bool,
    /// Its text has more than one statement.
    #[arg(long)]
    multi_statement: bool,
    /// A value that it is run with, by the number of the parameter; may be given several times.
    #[arg(long = "parameter", value_name = "NUMBER=VALUE")]
    parameters: Vec<String>,
    /// Ask about a recorded request, by its id: who and what are taken from the record.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SessionsAct {
    /// One line for each session, the oldest first.
    List {
        #[command(flatten)]
        place: Place,
        /// Subject of the caller.
        #[arg(long)]
        caller: Option<String>,
        /// Resource name.
        #[arg(long)]
        resource: Option<String>,
        /// `permit`, `deny`, or a refusal's label.
        #[arg(long)]
        decision: Option<String>,
        /// Started at or after: `2026-01-31T12:00:00Z`, or `15m`, `2h`, `7d` ago.
        #[arg(long, value_parser = time)]
        since: Option<u64>,
        /// Started before; as `--since`.
        #[arg(long, value_parser = time)]
        until: Option<u64>,
        /// Only so many of the newest.
        #[arg(long, value_name = "COUNT")]
        newest: Option<usize>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Everything that is recorded of one session.
    #[command(after_help = "Example: weirgate sessions show 00001f4 -c gateway.toml\n\n\
        Sessions of one worker begin alike: give digits of the end of the id, as many as it takes. \
        Exit 2, with candidates, where several fit.")]
    Show {
        #[command(flatten)]
        place: Place,
        /// The session's id, which is the request id that the caller saw; some digits of its
        /// beginning or end are enough, where no other session has them.
        id: String,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// A session on the terminal, as it went by; with `--to` its request once more to an upstream,
    /// and how the answer differs (exit 1 where it does).
    #[command(after_help = "Example: weirgate sessions replay 00001f4 -c gateway.toml \
        --to https://api.openai.com --credential env:OPENAI_API_KEY\n         \
        weirgate sessions replay 00001f4 -c gateway.toml --to postgres://app@127.0.0.1/staging")]
    Replay {
        #[command(flatten)]
        place: Place,
        /// The session's id, or digits of its beginning or end; as for `show`.
        id: String,
        /// Keep the recorded pace, so many times as fast.
        #[arg(long, value_name = "FACTOR", num_args = 0..=1, default_missing_value = "1")]
        speed: Option<f64>,
        /// Bytes as they are; else what would steer a terminal is escaped.
        #[arg(long)]
        raw: bool,
        #[command(flatten)]
        to: Resend,
    },
}

/// The upstream that a recorded request is sent to.
#[derive(Debug, Args)]
struct Resend {
    /// Send the recorded request to this upstream: https, or http on a loopback address. The
    /// recorded target is put behind its path. Of a database: postgres://USER@HOST:PORT/DATABASE,
    /// where the recorded statements run.
    #[arg(long, value_name = "URL", conflicts_with_all = ["speed", "raw"])]
    to: Option<String>,
    /// A field to add or to put in place of the recorded one; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "to")]
    headers: Vec<String>,
    /// Where the key is, `env:NAME` or `file:PATH`; sent as `Authorization: Bearer`. Of a database:
    /// the password; without, that of PGPASSWORD.
    #[arg(long, value_name = "FROM", requires = "to")]
    credential: Option<String>,
    /// Send the key as it is in this field instead, as in `x-api-key`.
    #[arg(long, value_name = "NAME", requires = "credential")]
    credential_header: Option<String>,
    /// Send the masked form of a request that was recorded under a mask.
    #[arg(long, requires = "to")]
    masked: bool,
    /// Print one JSON object; of a database one for each statement, a line each.
    #[arg(long, requires = "to")]
    json: bool,
    /// Of a database: all statements of the connection that the session belongs to.
    #[arg(long, requires = "to")]
    connection: bool,
    /// Of a database: run statements that may write, too, and commit them as they were. Without it
    /// what is not known to only read is not run, and the server is asked to refuse writes.
    #[arg(long, requires = "to")]
    write: bool,
    /// Of a database: the authorities to trust in place of the system's, PEM. Beyond loopback TLS
    /// is always spoken.
    #[arg(long, value_name = "FILE", requires = "to")]
    ca: Option<PathBuf>,
    /// Of a database: a way to ask for the password that is allowed beside scram-sha-256: md5,
    /// cleartext (what a Weirgate asks for); may be given several times.
    #[arg(long, value_name = "METHOD", requires = "to")]
    auth: Vec<String>,
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
    let usual = if matches!(cli.command, Command::Serve { .. }) { "info" } else { "warn" };
    let filter =
        cli.log.or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| usual.to_owned());
    if let Err(error) = log(&filter, cli.log_format) {
        eprintln!("weirgate: --log {filter}: {error}");
        return ExitCode::from(2);
    }
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    ExitCode::from(match cli.command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config, json, connect } => {
            let options = check::Options { config, json, connect };
            check::run(&options, &System, &mut out, &mut errors)
        }
        Command::Demo(options) => demo::run(&options),
        Command::Cert(args) => return cert::run(&args),
        Command::Token { act: TokenAct::Mint(mint) } => token::mint(&mint),
        Command::Token { act: TokenAct::Inspect { config, jwks } } => {
            token::inspect_input(&config, jwks.as_deref())
        }
        Command::Policy { act } => run_policy(act),
        Command::Mask { act: MaskAct::Grants { config, mask, role } } => {
            let options = mask::Grants { config, mask, role };
            mask::grants(&options, &System, &mut out, &mut errors)
        }
        Command::Sessions { act } => run_sessions(act),
        Command::Approvals { act } => run_approvals(act),
        Command::Grants { act } => run_grants(act),
        Command::Webhooks { act } => run_webhooks(act),
        Command::Verify { dir, config, data, keys, json } => {
            let data = match folder(&Place { config, data: dir.or(data) }) {
                Ok(data) => data,
                Err(code) => return ExitCode::from(code),
            };
            verify::run(&verify::Options { data, keys, json }, &mut out, &mut errors)
        }
    })
}

fn run_policy(act: PolicyAct) -> u8 {
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    match act {
        PolicyAct::Test { config, json } => {
            policy::test(&policy::Test { config, json }, &System, &mut out, &mut errors)
        }
        PolicyAct::Explain(ask) => {
            let mut question = policy::Explain {
                config: ask.config,
                iss: ask.iss,
                sub: ask.sub,
                groups: ask.groups,
                client_id: ask.client_id,
                actors: ask.actors,
                node: ask.node,
                run: ask.run,
                thread: ask.thread,
                resource: ask.resource.unwrap_or_default(),
                method: ask.method,
                path: ask.path,
                model: ask.model,
                unreadable: ask.unreadable,
                statement: ask.statement,
                table: ask.table,
                access: ask.access,
                columns: ask.columns,
                functions: ask.functions,
                missing_where: ask.missing_where,
                multi_statement: ask.multi_statement,
                parameters: ask.parameters,
                json: ask.json,
                ..policy::Explain::default()
            };
            if let Some(request) = ask.request
                && let Err(error) = process::ask_of_record(&request, &mut question)
            {
                eprintln!("weirgate policy explain: {error}");
                return 2;
            }
            policy::explain(&question, &System, &mut out, &mut errors)
        }
    }
}

fn run_approvals(act: ApprovalsAct) -> u8 {
    use approvals::Act;
    let (reach, act) = match act {
        ApprovalsAct::List { reach, state, review_owed } => {
            (reach, Act::List { state, review_owed })
        }
        ApprovalsAct::Open { reach } => (reach, Act::Open),
        ApprovalsAct::Show { reach, id } => (reach, Act::Show { id }),
        ApprovalsAct::Approve(Cast { reach, id, reason, digest }) => {
            (reach, Act::Vote { id, approve: true, reason, digest })
        }
        ApprovalsAct::Deny(Cast { reach, id, reason, digest }) => {
            (reach, Act::Vote { id, approve: false, reason, digest })
        }
        ApprovalsAct::Reveal(OfOne { reach, id }) => (reach, Act::Reveal { id }),
        ApprovalsAct::Before(OfOne { reach, id }) => (reach, Act::Before { id }),
        ApprovalsAct::Estimate(OfOne { reach, id }) => (reach, Act::Estimate { id }),
        ApprovalsAct::Review { reach, id, reason } => (reach, Act::Review { id, reason }),
    };
    approvals::run(&reach.into(), &act, &System, &mut io::stdout(), &mut io::stderr())
}

fn run_grants(act: GrantsAct) -> u8 {
    use approvals::{Act, Which};
    let (reach, act) = match act {
        GrantsAct::List { reach } => (reach, Act::Grants),
        GrantsAct::Revoke(back) => {
            let which = match (back.id, back.caller, back.resource) {
                (Some(id), ..) => Which::Id(id),
                (_, Some(sub), _) => Which::Caller { sub, iss: back.iss },
                (.., Some(name)) => Which::Resource(name),
                _ => Which::All,
            };
            (back.reach, Act::Revoke { which, reason: back.reason })
        }
    };
    approvals::run(&reach.into(), &act, &System, &mut io::stdout(), &mut io::stderr())
}

fn run_webhooks(act: WebhooksAct) -> u8 {
    use webhooks::Act;
    let (reach, act) = match act {
        WebhooksAct::List { reach } => (reach, Act::List),
        WebhooksAct::Dead { reach } => (reach, Act::Dead),
        WebhooksAct::Retry { reach, id } => (reach, Act::Retry { id }),
    };
    webhooks::run(&reach.into(), &act, &System, &mut io::stdout(), &mut io::stderr())
}

fn run_sessions(act: SessionsAct) -> u8 {
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    let place = match &act {
        SessionsAct::List { place, .. }
        | SessionsAct::Show { place, .. }
        | SessionsAct::Replay { place, .. } => place,
    };
    let data = match folder(place) {
        Ok(data) => data,
        Err(code) => return code,
    };
    match act {
        SessionsAct::List { caller, resource, decision, since, until, newest, json, .. } => {
            let filter = sessions::Filter {
                caller,
                resource,
                decision,
                since_ns: since,
                until_ns: until,
                newest,
            };
            sessions::list(&data, &filter, json, &mut out, &mut errors)
        }
        SessionsAct::Show { id, json, .. } => {
            sessions::show(&data, &id, json, &mut out, &mut errors)
        }
        SessionsAct::Replay { id, speed, raw, to: asked, .. } => {
            let Some(url) = asked.to else {
                let how = sessions::Replay { speed, raw };
                return sessions::replay(&data, &id, how, &mut out, &mut errors);
            };
            if url.starts_with("postgres://") || url.starts_with("postgresql://") {
                if !asked.headers.is_empty() || asked.credential_header.is_some() {
                    eprintln!("error: --header and --credential-header are of http requests");
                    return 2;
                }
                let to = sessions::ToDatabase {
                    url,
                    credential: asked.credential,
                    ca: asked.ca,
                    auth: asked.auth,
                    connection: asked.connection,
                    write: asked.write,
                    masked: asked.masked,
                    json: asked.json,
                };
                return sessions::rerun(&data, &id, &to, &System, &mut out, &mut errors);
            }
            if asked.connection || asked.write || asked.ca.is_some() || !asked.auth.is_empty() {
                eprintln!("error: --connection, --write, --ca and --auth are of databases");
                return 2;
            }
            let to = sessions::To {
                url,
                headers: asked.headers,
                credential: asked.credential,
                credential_header: asked.credential_header,
                masked: asked.masked,
                json: asked.json,
            };
            sessions::resend(&data, &id, &to, &System, &mut out, &mut errors)
        }
    }
}

/// The data directory; an exit code when the config that should name it does not compile.
fn folder(place: &Place) -> Result<PathBuf, u8> {
    if let Some(data) = &place.data {
        return Ok(data.clone());
    }
    let config = place.config.clone().unwrap_or_default();
    match crate::config::load(&config, &System) {
        Ok(config) => Ok(config.gateway.data_dir),
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            Err(2)
        }
    }
}

fn time(text: &str) -> Result<u64, String> {
    let now = crate::runtime::now().wall_ns;
    sessions::parse_time(text, now)
        .ok_or_else(|| "write 2026-01-31T12:00:00Z, or 15m, 2h, 7d for so long ago".to_owned())
}

/// Sets the log up, to stderr.
fn log(filter: &str, format: LogFormat) -> Result<(), String> {
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
