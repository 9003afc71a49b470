#!/usr/bin/env bash
# Builds Weirgate and runs the main job on embedded defaults: a dev issuer, a stand-in provider,
# the gateway and a short guided tour; then it stays up. Arguments go to `weirgate demo`:
#
#   scripts/demo.sh                              no network, no root
#   scripts/demo.sh --upstream https://api.openai.com
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools
cargo build --locked
exec "$target/debug/weirgate" demo "$@"
