#!/usr/bin/env bash
# Everything that CI runs: installs what the tests need into target/, builds, tests, real clients.
#
#   scripts/test.sh           all of it
#   scripts/test.sh clients   only the real clients, on what is built
set -euo pipefail
source "$(dirname "$0")/lib.sh"

clients() {
    step "real clients: OpenAI and Anthropic SDKs, LangGraph, curl, Node; PostgreSQL's; the page in a browser"
    need curl curl
    need node nodejs
    need chromium chromium
    need_postgres
    local python modules
    cargo build --locked --example tokio_client
    python=$(venv)
    modules=$(npm_modules)
    NODE_PATH=$modules WEIRGATE_BIN=$target/debug/weirgate "$python" -m pytest -q -p no:cacheprovider tests/clients
}

audit() {
    step "dependencies"
    # deny.toml names the same crates; `cargo deny` is not installed everywhere.
    local crates banned
    crates=$(cargo tree --locked --edges normal,build --prefix none --format '{p}' \
        | awk '{print $1}' | sort -u)
    banned=$(sed -n 's/^ *{ crate = "\([a-z0-9_-]*\)".*/\1/p' deny.toml)
    [ -n "$banned" ] || fail "deny.toml bans no crate: its form changed"
    local found
    found=$(comm -12 <(printf '%s\n' "$crates") <(printf '%s\n' "$banned" | sort -u))
    [ -z "$found" ] || fail "banned by deny.toml: $found"
    if cargo deny --version > /dev/null 2>&1; then
        cargo deny --offline check bans licenses sources
    fi
    printf '%s crates, none of them banned\n' "$(printf '%s\n' "$crates" | wc -l)"
}

need_build_tools
if [ "${1:-all}" = clients ]; then
    cargo build --locked
    clients
    exit
fi

step "format and lints"
cargo fmt --all --check
cargo clippy --locked --all-targets -- -D warnings

audit

step "build and test"
# tests/gateway runs it as a caller.
need curl curl
cargo build --locked
cargo test --locked

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

if [ -f fuzz/Cargo.toml ]; then
    step "fuzz targets: corpus and a short run of each"
    scripts/fuzz.sh --smoke
fi

clients

step "all passed"
