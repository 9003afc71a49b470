#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ by libFuzzer, on the stable toolchain.
#
#   scripts/fuzz.sh --smoke             each target: its corpus, then the same few thousand inputs
#                                       of a fixed seed at each call; for CI
#   scripts/fuzz.sh SECONDS [TARGET...] longer; all targets when none is named
#
# Seeds are in fuzz/corpus/TARGET, what a run finds goes to target/fuzz-found/TARGET, a crash to
# fuzz/artifacts/TARGET; the input of a fixed crash moves to the corpus.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools
need c++ g++
[ -f fuzz/Cargo.toml ] || fail "no fuzz/Cargo.toml"

seconds=60
bounds=()
case ${1:-} in
    --smoke) seconds=30 bounds=(-seed=1 -runs="${FUZZ_SMOKE_RUNS:-4000}"); shift ;;
    [0-9]*) seconds=$1; shift ;;
    -*) fail "unknown option $1" ;;
esac
known=$(awk '/^\[/ { on = ($0 == "[[bin]]") } on && /^name/ { gsub(/.*= *"|".*/, ""); print }' fuzz/Cargo.toml)
names=${*:-$known}
[ -n "$names" ] || fail "fuzz/Cargo.toml has no [[bin]]"

# fuzz/Cargo.toml repeats the dev profile and fuzz/Cargo.lock the versions of the crate, so that
# its dependencies are those in target/.
[ -f fuzz/Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
step "building fuzz targets"
RUSTC_WRAPPER=$root/scripts/fuzz-rustc.sh \
    cargo build --manifest-path fuzz/Cargo.toml --target-dir "$target"

found=$target/fuzz-found
# What an earlier run found would make the inputs of this one others.
[ ${#bounds[@]} = 0 ] || { found=$target/fuzz-smoke; rm -rf "$found"; }
count=0
for name in $names; do
    grep -qx -- "$name" <<< "$known" || fail "no target \`$name\`; there are: $known"
    step "fuzz $name, at most ${seconds} s"
    mkdir -p "fuzz/corpus/$name" "$found/$name" "fuzz/artifacts/$name"
    "$target/debug/$name" "$found/$name" "fuzz/corpus/$name" \
        -max_total_time="$seconds" "${bounds[@]}" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$name/"
    count=$((count + 1))
done
printf '\nfuzz: %s passed, 0 failed\n' "$count"
