//! `weirgate check -c FILE`: compiles everything, prints what is wrong with file and line; with
//! `--connect` it asks the databases, too.

mod connect;

use crate::config::{Config, Diagnostic, Source, load};
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What `check` was asked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The config.
    pub config: PathBuf,
    /// One JSON object a line.
    pub json: bool,
    /// Log in to each database, and look for the masked columns there.
    pub connect: bool,
}

/// Checks and prints. Returns 0: it compiles and its cases hold (and, where that is asked for, every
/// database lets the gateway in and has the masked columns); 1: there are errors; 2: the file
/// cannot be read.
pub fn run(
    options: &Options,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    if let Err(error) = source.read(&options.config) {
        // Nothing is left to do where even this cannot be written.
        let _ = writeln!(errors, "error: cannot read {}: {error}", options.config.display());
        let _ = writeln!(errors, "    name a config: weirgate check -c gateway.toml");
        return 2;
    }
    let found = load(&options.config, source).and_then(|config| {
        let failed = config.failed_cases();
        if failed.is_empty() { Ok(config) } else { Err(failed) }
    });
    let (printed, code) = match found {
        Ok(config) => match print_good(&config, options.json, out) {
            Ok(()) if options.connect => {
                let asked = connect::ask(&config, source, options.json, out);
                let code = asked.as_ref().map_or(2, |good| u8::from(!good));
                (asked.map(drop), code)
            }
            printed => (printed, 0),
        },
        Err(diagnostics) => (print_bad(&diagnostics, options.json, out), 1),
    };
    match printed {
        Ok(()) => code,
        Err(error) => {
            let _ = writeln!(errors, "error: cannot write the answer: {error}");
            2
        }
    }
}

fn print_good(config: &Config, json: bool, out: &mut dyn Write) -> io::Result<()> {
    for warning in &config.warnings {
        print_one("warning", warning, json, out)?;
    }
    let counts = [
        ("listeners", config.listeners.len()),
        ("resources", config.resources.len()),
        ("issuers", config.token_issuers.len() + config.certificate_issuers.len()),
        ("masks", config.masks.len()),
        ("rules", config.table.len()),
        ("cases", config.cases.len()),
    ];
    let file = config.files.first().map_or(Path::new(""), PathBuf::as_path).display().to_string();
    if json {
        let mut line = serde_json::Map::from_iter([
            ("level".to_owned(), json!("ok")),
            ("file".to_owned(), json!(file)),
        ]);
        line.extend(counts.map(|(name, count)| (name.to_owned(), json!(count))));
        return writeln!(out, "{}", json!(line));
    }
    let counts = counts.map(|(name, count)| format!("{count} {name}"));
    writeln!(out, "{file}: ok ({})", counts.join(", "))
}

fn print_bad(diagnostics: &[Diagnostic], json: bool, out: &mut dyn Write) -> io::Result<()> {
    for diagnostic in diagnostics {
        print_one("error", diagnostic, json, out)?;
    }
    if json {
        return Ok(());
    }
    match diagnostics.len() {
        1 => writeln!(out, "1 error"),
        count => writeln!(out, "{count} errors"),
    }
}

/// One diagnostic, as all commands that read a config print it.
pub(super) fn print_one(
    level: &str,
    one: &Diagnostic,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if json {
        let Diagnostic { file, line, message, help } = one;
        let object = json!({
            "level": level, "file": file, "line": line, "message": message, "help": help,
        });
        return writeln!(out, "{object}");
    }
    // The place comes first, so that editors and terminals can jump to it.
    let place = format!("{}:{}", one.file.display(), one.line);
    writeln!(out, "{place}: {level}: {}", one.message)?;
    if one.help.is_empty() { Ok(()) } else { writeln!(out, "    {}", one.help) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::source::System;

    fn check(text: &str, json: bool) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gw.toml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code =
            run(&Options { config: path, json, connect: false }, &System, &mut out, &mut errors);
        assert!(errors.is_empty());
        let out = String::from_utf8(out).unwrap();
        (code, out.replace(dir.path().to_str().unwrap(), "DIR"))
    }

    const GOOD: &str = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
        [[resource]]\nname = \"r\"\nprotocol = \"http\"\nupstream = \"http://127.0.0.1:1\"\n";

    #[test]
    fn a_good_config_is_0_a_broken_one_1_none_2() {
        let (code, text) = check(GOOD, false);
        assert_eq!(code, 0);
        assert!(text.starts_with("DIR/gw.toml: ok (1 listeners, 1 resources,"), "{text}");
        let (code, text) = check(&GOOD.replace("name = \"a\"", "nam = \"a\""), false);
        assert_eq!(code, 1);
        assert!(
            text.contains("DIR/gw.toml:2: error: unknown key `nam` in [[listener]]\n"),
            "{text}"
        );
        assert!(text.contains("\n    did you mean `name`?"), "{text}");
        assert!(text.ends_with("2 errors\n"), "{text}");
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let options = Options { config: "no/such.toml".into(), ..Options::default() };
        assert_eq!(run(&options, &System, &mut out, &mut errors), 2);
        assert!(String::from_utf8(errors).unwrap().contains("cannot read no/such.toml"));
    }

    #[test]
    fn a_failing_case_is_an_error_and_json_is_one_object_a_line() {
        let text = format!("{GOOD}[[case]]\nwhat = {{ resource = \"r\" }}\nexpect = \"allow\"\n");
        let (code, text) = check(&text, true);
        assert_eq!(code, 1);
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["line"], 9);
        assert!(line["message"].as_str().unwrap().contains("expects allow"), "{line}");
        let (_, text) = check(GOOD, true);
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["level"], &line["resources"]), (&"ok".into(), &1.into()));
    }
}
