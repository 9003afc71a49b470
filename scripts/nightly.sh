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
# Each part prints its seeds and what it looked at, and the next part runs also when one has failed;
# the exit code is 1 then. What fuzzing found stays in target/fuzz-found, a crash in fuzz/artifacts,
# the record of failed kills in target/tmp/kills-SEED.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

log=$(mktemp)
trap 'end_own; rm -f "$log"' EXIT
export log

failed=()
part() {
    local name=$1 start=$SECONDS
    shift
    step "nightly $name"
    if "$@"; then
        step "nightly $name passed in $((SECONDS - start)) s"
    else
        failed+=("$name")
        step "nightly $name FAILED after $((SECONDS - start)) s"
    fi
}

# tests ARG...: `cargo test`, which also passes when it finds no test of that name; here that fails.
# What it wrote stays in $log for the caller.
tests() {
    cargo test --locked "$@" 2>&1 | tee "$log"
    grep -q '^test result: ok\. [1-9]' "$log" || { echo "no test ran: cargo test $*" >&2; return 1; }
}

kills() {
    local count=${NIGHTLY_KILLS:-500}
    WEIRGATE_KILLS=$count tests --test gateway -- \
        --exact --nocapture kill::kill_at_any_instant_loses_nothing_that_was_released_or_admitted
    # The test says how much it looked at, behind the last look.
    grep -q "^kills: $count, .*; none is missing\$" "$log" \
        || { echo "the test did not count $count kills" >&2; return 1; }
}

fuzz() {
    local targets=()
    read -ra targets <<< "${NIGHTLY_FUZZ_TARGETS:-}"
    scripts/fuzz.sh "${NIGHTLY_FUZZ_SECONDS:-600}" "${targets[@]:+${targets[@]}}"
}

isolation() {
    WEIRGATE_CASES=${NIGHTLY_CASES:-20000} tests --test isolation -- --nocapture
    local round
    for ((round = 0; round < ${NIGHTLY_ROUNDS:-50}; round++)); do
        tests --quiet --test gateway -- --nocapture shared::
    done
}

[ $# -gt 0 ] || set -- kills fuzz isolation
for name in "$@"; do
    case $name in
        # In a shell of its own, where the first failure ends the part.
        kills | fuzz | isolation) part "$name" bash -c "set -euo pipefail; $(declare -f step tests "$name"); $name" ;;
        *) fail "no part \`$name\`; there are: kills fuzz isolation" ;;
    esac
done
[ ${#failed[@]} = 0 ] || fail "failed: ${failed[*]}"
step "nightly passed: $*"
