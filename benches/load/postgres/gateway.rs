//! The gateway in front of the server: one rule and a record of statements, or all that it has.

use super::{DATABASE, PROXY, SECRET, Server, Target};
use crate::Outcome;
use crate::args::Args;
use crate::material::{Material, write_private};
use crate::process::{Running, free_ports};
use crate::site::{Policy, RULES, Site};

/// What the rule of everything on owes. A column mask that is armed and never hit belongs here as
/// soon as a rule on a database can owe one.
const FULL_OWES: &str = "record = \"full\"";

/// Starts it; `full` is everything on.
///
/// # Errors
/// A file that cannot be written, or a process that cannot be started.
pub(super) fn start(
    args: &Args,
    full: bool,
    material: &Material,
    server: &Server,
) -> Outcome<(Running, Target)> {
    let name = if full { "weirgate-pg-full" } else { "weirgate-pg-bare" };
    let site = Site::make(name, material)?;
    let [admin, address] = free_ports::<2>()?;
    let secret = material.path("server.password");
    write_private(&secret, SECRET)?;
    let text = format!(
        r#"{head}
[[listener]]
name = "db"
address = "{address}"
protocol = "postgres"
insecure = true

[[resource]]
name = "{DATABASE}"
protocol = "postgres"
upstream = "postgres://{server}/{DATABASE}"
credential = {{ kind = "password", user = "{PROXY}", secret = "file:{secret}" }}
"#,
        head = site.head(admin, material),
        server = server.address(),
        secret = secret.display(),
    );
    let process = site.start(args, None, &text, &policy(full))?;
    // The name counts for nothing: the token says who it is.
    Ok((process, Target { address, user: "anybody", password: material.token.clone() }))
}

/// One rule that allows all, or a thousand of which a few speak of this caller.
fn policy(full: bool) -> String {
    let mut policy = Policy::default();
    let here = format!("resource = [\"{DATABASE}\"]");
    if !full {
        policy.rule("agents", "allow", "groups = [\"agents\"]", &here, "record = \"meta\"");
        return policy.0;
    }
    let read = format!("{here}, statement = [\"select\"]");
    // pgbench counts its branches, and looks into the catalog, before it starts.
    let tables =
        "table = [\"public.pgbench_accounts\", \"public.pgbench_branches\", \"pg_catalog.*\"]";
    policy.rule(
        "agents-read",
        "allow",
        "groups = [\"agents\"]",
        &format!("{read}, {tables}"),
        FULL_OWES,
    );
    for index in 0..RULES.saturating_sub(1) {
        let id = format!("rule-{index}");
        match index % 10 {
            // Rules of this caller's own groups that do not fit the statement.
            0 => policy.rule(
                &id,
                "deny",
                "groups = [\"analysts\"]",
                &format!("{here}, table = [\"public.ledger_{index}*\"]"),
                "",
            ),
            1 => policy.rule(
                &id,
                "deny",
                "groups = [\"agents\"]",
                &format!(
                    "{here}, statement = [\"update\", \"delete\"], writes = [\"stock_{index}.*\"]"
                ),
                "",
            ),
            // A named person.
            2 => policy.rule(&id, "allow", &format!("sub = [\"person-{index}\"]"), &read, ""),
            // Other teams.
            _ => {
                let who = format!("groups = [\"team-{}\"]", index / 3);
                let what = format!("{read}, table = [\"team_{}.*\"]", index % 50);
                policy.rule(&id, if index % 7 == 0 { "deny" } else { "allow" }, &who, &what, "");
            }
        }
    }
    policy.0
}
