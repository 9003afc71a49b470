#!/usr/bin/env bash
# What is too long for CI: kills by the hundred, long fuzzing, many interleavings.
#
#   scripts/nightly.sh                       all of it, about three hours
#   scripts/nightly.sh kills|fuzz|isolation  one of them; several may be named
#
#   NIGHTLY_KILLS=500        kills -9 of a gateway under load, at random instants
#   NIGHTLY_FUZZ_SECONDS=600 for each fuzz target
#   NIGHTLY_FUZZ_TARGETS=    names; all when empty
#   NIGHTLY_CASES=20000      interleavings of callers on one worker
#   NIGHTLY_ROUNDS=50        runs of the callers on sockets
#   WEIRGATE_SEED=           replays the seed that a failed run printed
#
# Each part prints its seeds, and the next part runs also when one has failed; the exit code is 1
# then. What fuzzing found stays in target/fuzz-found, a crash in fuzz/artifacts.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

failed=()
part() {
    local name=$1
    shift
    step "nightly $name"
    "$@" || failed+=("$name")
}

kills() {
    WEIRGATE_KILLS=${NIGHTLY_KILLS:-500} cargo test --locked --test gateway -- \
        --exact --nocapture kill::kill_at_any_instant_loses_nothing_that_was_released_or_admitted
}

fuzz() {
    local targets=()
    read -ra targets <<< "${NIGHTLY_FUZZ_TARGETS:-}"
    scripts/fuzz.sh "${NIGHTLY_FUZZ_SECONDS:-600}" "${targets[@]:+${targets[@]}}"
}

isolation() {
    WEIRGATE_CASES=${NIGHTLY_CASES:-20000} cargo test --locked --test isolation -- --nocapture
    local round
    for ((round = 0; round < ${NIGHTLY_ROUNDS:-50}; round++)); do
        cargo test --quiet --locked --test gateway -- --nocapture shared::
    done
}

[ $# -gt 0 ] || set -- kills fuzz isolation
for name in "$@"; do
    case $name in
        # In a shell of its own, where the first failure ends the part.
        kills | fuzz | isolation) part "$name" bash -c "set -euo pipefail; $(declare -f step "$name"); $name" ;;
        *) fail "no part \`$name\`; there are: kills fuzz isolation" ;;
    esac
done
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
step "nightly passed"
