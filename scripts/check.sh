#!/usr/bin/env bash
# The fast loop: format, lints, documentation, unit tests, layers. `scripts/test.sh` is everything.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --locked --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

step "unit and layering tests"
cargo test --locked --lib
cargo test --locked --test layering
