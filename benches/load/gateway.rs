//! The gateway as a subject: its two configurations, bare and everything on.

use std::fmt::Write;
use std::path::Path;

use crate::Outcome;
use crate::args::Args;
use crate::drive::Target;
use crate::material::Material;
use crate::process::{Running, free_ports};
use crate::site::{Policy, RULES, Site};
use crate::upstream::Addresses;

/// Starts `weirgate serve` with a configuration of its own; `full` is everything on. With `counts`
/// it is this program as a gateway that counts its allocations, and tells them on that socket.
///
/// # Errors
/// A file that cannot be written, or a process that cannot be started.
pub(crate) fn start(
    args: &Args,
    full: bool,
    relays: bool,
    counts: Option<&Path>,
    material: &Material,
    upstream: &Addresses,
) -> Outcome<(Running, Target)> {
    let name = match (full, counts) {
        (false, None) => "weirgate-bare",
        (true, None) => "weirgate-full",
        (false, Some(_)) => "weirgate-bare-counted",
        (true, Some(_)) => "weirgate-full-counted",
    };
    let site = Site::make(name, material)?;
    let [admin, plain, tls, echo, source, sink] = free_ports::<6>()?;
    let file = |name: &str| material.path(name).display().to_string();

    let mut text = site.head(admin, material);
    write!(
        text,
        r#"
[[credential]]
name = "key"
kind = "bearer"
secret = "file:{key}"

[[listener]]
name = "plain"
address = "{plain}"
protocol = "http"

[[listener]]
name = "tls"
address = "{tls}"
protocol = "http"
resource = "bench-tls"
tls = {{ cert = "{cert}", key = "{cert_key}" }}

[[resource]]
name = "bench"
protocol = "http"
upstream = "http://{http}"
shape = "openai"
credential = "key"

[[resource]]
name = "bench-tls"
protocol = "http"
upstream = "https://localhost:{https_port}"
shape = "openai"
credential = "key"
tls = {{ ca = "{ca}", server_name = "localhost" }}
"#,
        key = file("upstream.key"),
        cert = file("server.crt"),
        cert_key = file("server.key"),
        ca = file("ca.pem"),
        http = upstream.http,
        https_port = upstream.https.port(),
    )?;
    if relays {
        let ca = file("ca.pem");
        write!(text, "\n[[issuer]]\nname = \"callers\"\nkind = \"x509\"\nca = \"{ca}\"\n")?;
        for (name, address, target) in [
            ("echo", echo, upstream.echo),
            ("source", source, upstream.source),
            ("sink", sink, upstream.sink),
        ] {
            write!(
                text,
                "\n[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\n\
                 resource = \"{name}\"\n\
                 tls = {{ cert = \"{cert}\", key = \"{key}\", client_ca = \"{ca}\" }}\n\
                 \n[[resource]]\nname = \"{name}\"\nprotocol = \"tcp\"\nupstream = \"tcp://{target}\"\n\
                 credential = {{ kind = \"none\" }}\n",
                cert = file("server.crt"),
                key = file("server.key"),
            )?;
        }
    }
    if full {
        text.push_str(
            "\n[[mask]]\nname = \"pii\"\n\
             detect = [\"email\", \"pan\", \"iban\", \"us_ssn\", \"secrets\"]\n\
             fields = [\"$..ssn\"]\noperator = { default = \"redact\" }\n",
        );
    }
    let process = site.start(args, counts, &text, &policy(full, relays))?;
    let mut target = Target::new(
        [plain, tls],
        relays.then_some([echo, source, sink]),
        &material.token,
        material,
    );
    target.admin = Some(admin);
    Ok((process, target))
}

/// One rule, or a thousand of which a few speak of this caller.
fn policy(full: bool, relays: bool) -> String {
    let mut policy = Policy::default();
    let mut rule = |id: &str, effect: &str, who: &str, what: &str, then: &str| {
        policy.rule(id, effect, who, what, then);
    };
    let resources = "resource = [\"bench\", \"bench-tls\"]";
    let here = format!("{resources}, method = [\"POST\"], path = [\"*/v1/*\"]");
    let record = if full { "record = \"full\"" } else { "record = \"meta\"" };
    if full {
        let what = format!("{here}, model = [\"gpt-4o*\", \"gpt-5*\"]");
        rule(
            "agents-chat",
            "allow",
            "groups = [\"agents\"]",
            &what,
            "mask = [\"pii\"], record = \"full\"",
        );
    } else {
        rule("agents-chat", "allow", "groups = [\"agents\"]", &here, record);
    }
    rule(
        "files-need-a-lead",
        "require_approval",
        "groups = [\"agents\"]",
        "resource = [\"bench\"], method = [\"POST\"], path = [\"*/v1/files\"]",
        "approval = { approvers = [\"leads\"] }",
    );
    if relays {
        let what = "resource = [\"echo\", \"source\", \"sink\"]";
        rule("relays", "allow", "sub = [\"spiffe://bench.test/caller\"]", what, record);
    }
    if !full {
        return policy.0;
    }
    for index in 0..RULES.saturating_sub(1) {
        let id = format!("rule-{index}");
        match index % 10 {
            // Rules of this caller's own groups that do not fit the action.
            0 => rule(
                &id,
                "deny",
                "groups = [\"analysts\"]",
                &format!("{resources}, path = [\"*/v1/files/{index}/*\"]"),
                "",
            ),
            1 => rule(
                &id,
                "deny",
                "groups = [\"agents\"]",
                &format!("{resources}, model = [\"o{index}-*\"]"),
                "",
            ),
            // A named person.
            2 => rule(&id, "allow", &format!("sub = [\"person-{index}\"]"), &here, ""),
            // Other teams.
            _ => {
                let who = format!("groups = [\"team-{}\"]", index / 3);
                let what = format!("{here}, model = [\"model-{}-*\"]", index % 50);
                rule(&id, if index % 7 == 0 { "deny" } else { "allow" }, &who, &what, "");
            }
        }
    }
    policy.0
}
