//! Do the modules use only what ARCHITECTURE.md's table lets them use?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use. Change it in a commit of its own, with the reason.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("scan", &["base"]),
    ("sql", &["base"]),
    ("identity", &["base"]),
    ("record", &["base"]),
    ("wire", &["base", "scan"]),
    ("mask", &["base", "scan"]),
    ("policy", &["base", "identity"]),
    ("credential", &["base", "policy"]),
    (
        "session",
        &["base", "scan", "wire", "sql", "identity", "policy", "credential", "mask", "record"],
    ),
    (
        "config",
        &["base", "scan", "wire", "sql", "identity", "policy", "credential", "mask", "record"],
    ),
    (
        "runtime",
        &[
            "base",
            "scan",
            "wire",
            "sql",
            "identity",
            "policy",
            "credential",
            "mask",
            "record",
            "session",
            "config",
        ],
    ),
    // The workers are seen by control only through the handle that `runtime` publishes.
    (
        "control",
        &[
            "base",
            "scan",
            "wire",
            "sql",
            "identity",
            "policy",
            "credential",
            "mask",
            "record",
            "session",
            "config",
            "runtime",
        ],
    ),
    (
        "gateway",
        &[
            "base",
            "scan",
            "wire",
            "sql",
            "identity",
            "policy",
            "credential",
            "mask",
            "record",
            "session",
            "config",
            "runtime",
            "control",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "scan",
            "wire",
            "sql",
            "identity",
            "policy",
            "credential",
            "mask",
            "record",
            "session",
            "config",
            "runtime",
            "control",
            "gateway",
        ],
    ),
];

/// Words of the standard library that mean input, output, time or threads.
const IMPURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "Instant::now",
    "SystemTime::now",
];
/// Layers that may hold them.
const MAY_ACT: &[&str] = &["runtime", "control", "gateway", "cli"];

/// Layers that may open a secret without a decision, since who runs them named it.
const MAY_LOG_IN: &[&str] = &["credential", "control", "cli"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source tree is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its comments and without its test module.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file is readable");
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every `crate::x` in `code`, also in `use crate::{x::.., y}`.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tail in code.split("crate::").skip(1) {
        let mut add = |name: &str| {
            let name: String =
                name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert(name);
        };
        if let Some(list) = tail.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (place, c) in list.char_indices() {
                if depth == 0 && start && !c.is_whitespace() && c != '}' {
                    add(&list[place..]);
                    start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ => {}
                }
            }
        } else {
            add(tail);
        }
    }
    found
}

fn breaches(files: &[(String, String, String)]) -> Vec<String> {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(name, may)| (*name, may.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (layer, file, code) in files {
        let Some(may) = table.get(layer.as_str()) else {
            wrong.push(format!("{file}: `{layer}` is no layer"));
            continue;
        };
        for used in uses(code) {
            if used != *layer && table.contains_key(used.as_str()) && !may.contains(used.as_str()) {
                wrong.push(format!("{file}: `{layer}` may not use `{used}`"));
            }
        }
        if code.contains("OperatorLogin") && !MAY_LOG_IN.contains(&layer.as_str()) {
            wrong.push(format!("{file}: `OperatorLogin`, which asks for no grant"));
        }
        if code.contains("super::super") {
            wrong.push(format!("{file}: super::super"));
        }
        if !MAY_ACT.contains(&layer.as_str()) {
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("{file}: `{word}` in a pure layer"));
            }
        }
        if ["session", "base", "wire", "mask", "policy", "identity", "record", "credential", "scan"]
            .contains(&layer.as_str())
        {
            for word in ["tokio::", "io_uring::", "socket2::", "axum::", "reqwest::"]
                .iter()
                .filter(|word| code.contains(**word))
            {
                wrong.push(format!("{file}: `{word}` below runtime"));
            }
        }
    }
    wrong
}

#[test]
fn every_module_uses_only_the_layers_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        if relative == "lib.rs" || relative == "main.rs" {
            continue;
        }
        let layer =
            relative.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        files.push((layer, relative, code(&path)));
    }
    assert!(files.len() > 5, "the walk found the sources");
    let wrong = breaches(&files);
    assert!(wrong.is_empty(), "layering:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for (name, may) in MAY_USE {
        for used in *may {
            assert!(done.contains(used), "`{name}` uses `{used}`, which is not below it");
        }
        done.insert(name);
    }
}

#[test]
fn a_breach_is_seen() {
    let file =
        |layer: &str, code: &str| vec![(layer.to_owned(), "x.rs".to_owned(), code.to_owned())];
    assert_eq!(breaches(&file("wire", "use crate::policy::Table;")).len(), 1);
    assert_eq!(
        breaches(&file("mask", "use crate::{base::{Now, Piece}, record::Journal};")).len(),
        1
    );
    assert_eq!(breaches(&file("record", "let f = std::fs::File::open(p);")).len(), 1);
    assert_eq!(breaches(&file("session", "tokio::spawn(x)")).len(), 1);
    assert_eq!(breaches(&file("wires", "")).len(), 1);
    assert_eq!(breaches(&file("session", "use crate::credential::OperatorLogin;")).len(), 1);
    assert!(breaches(&file("session", "use crate::{base::Now, policy::Grant};")).is_empty());
}
