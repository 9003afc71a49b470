//! Does every config that stands in the docs and in config/ compile?

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use weirgate::config::{self, Source};

/// Files of the tree, and texts that are in none.
struct Tree {
    texts: BTreeMap<PathBuf, String>,
}

impl Source for Tree {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.texts.get(path) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => std::fs::read(path),
        }
    }

    fn exists(&self, _: &Path) -> bool {
        // Samples name certificates and keys that are not in the tree.
        true
    }

    fn mode(&self, _: &Path) -> Option<u32> {
        Some(0o600)
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fenced blocks of `text` that say they are TOML, each with the file name that a first line
/// `# name.toml` gives it.
fn blocks(text: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    for block in text.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default().to_owned();
        let first = block.lines().next().unwrap_or_default();
        let word = first.strip_prefix("# ").and_then(|rest| rest.split_whitespace().next());
        let name = word.filter(|word| word.ends_with(".toml")).map(str::to_owned);
        found.push((name, block));
    }
    found
}

fn check(path: &Path, tree: &Tree) {
    if let Err(errors) = config::load(path, tree) {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{} does not compile:\n{}", path.display(), text.join("\n"));
    }
}

#[test]
fn every_sample_of_the_docs_compiles() {
    let mut seen = 0;
    for name in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"] {
        let text = std::fs::read_to_string(root().join(name)).expect("the docs are in the tree");
        let blocks = blocks(&text);
        let mut tree = Tree { texts: BTreeMap::new() };
        for (file, block) in &blocks {
            if let Some(file) = file {
                tree.texts.insert(root().join(file), block.clone());
            }
        }
        for (file, block) in blocks {
            // A policy is checked by the config that includes it.
            if file.as_deref() == Some("policy.toml") {
                continue;
            }
            let path = root().join(file.unwrap_or_else(|| format!("sample-{seen}.toml")));
            tree.texts.insert(path.clone(), block);
            check(&path, &tree);
            seen += 1;
        }
    }
    assert!(seen > 0, "the README has a sample");
}

#[test]
fn every_config_in_the_tree_compiles() {
    let tree = Tree { texts: BTreeMap::new() };
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("config")).expect("config/ is in the tree") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            check(&path, &tree);
            seen += 1;
        }
    }
    assert!(seen > 0, "config/reference.toml is in the tree");
}

#[test]
fn the_readmes_example_of_a_signature_is_one() {
    use weirgate::base::Secret;
    use weirgate::control::notify::signature::standard;
    let text = std::fs::read_to_string(root().join("README.md")).expect("it is in the tree");
    let key = Secret::new(b"an example key of at least 32 bytes".to_vec());
    let id = "msg_00000000000000000000000000000001";
    let body = "{\"type\":\"approval.requested\"}";
    let signature = standard(&key, id, 1_767_225_600, body.as_bytes());
    for line in [
        format!("    webhook-id: {id}\n"),
        "    webhook-timestamp: 1767225600\n".to_owned(),
        format!("    webhook-signature: {signature}\n"),
        format!("`{id}.1767225600.{body}`"),
    ] {
        assert!(text.contains(&line), "{line}");
    }
}
