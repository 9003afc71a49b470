#!/usr/bin/env bash
# Called by cargo in place of rustc by scripts/fuzz.sh: adds the coverage that libFuzzer steers by
# to our own crates only, so that all dependencies are shared with the ordinary build.
set -euo pipefail
flags=()
case ${CARGO_PKG_NAME:-} in
    weirgate | weirgate-fuzz)
        flags=(-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing)
        for option in level=4 inline-8bit-counters pc-table trace-compares; do
            flags+=("-Cllvm-args=-sanitizer-coverage-$option")
        done
        ;;
esac
exec "$@" "${flags[@]}"
