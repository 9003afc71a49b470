# Shared by the scripts; source it from bash after `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND PACKAGE: installs the Debian package when the command is missing.
need() {
    command -v "$1" > /dev/null 2>&1 || install_package "\`$1\`" "$2"
}

# install_package WHAT PACKAGE: WHAT is missing.
apt_updated=
install_package() {
    command -v apt-get > /dev/null 2>&1 || fail "$1 is missing: install $2"
    [ "$(id -u)" = 0 ] || fail "$1 is missing: run \`sudo apt-get install $2\`"
    if [ -z "$apt_updated" ]; then
        apt-get update -qq
        apt_updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"
}

need_build_tools() {
    command -v cargo > /dev/null 2>&1 || fail "cargo is missing: install Rust $(rust_version) or later"
    need cc gcc
    need_libclang
}

# The build of pg_raw_parse, PostgreSQL's parser, reads its C headers by libclang, which brings
# some headers of its own. An install of another place is named by LIBCLANG_PATH.
need_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local library headers
    library=$(compgen -G '/usr/lib*/llvm*/lib/libclang.so*' \
        || compgen -G '/usr/lib*/libclang.so*') || true
    headers=$(compgen -G '/usr/lib*/llvm*/lib/clang/*/include/stddef.h' \
        || compgen -G '/usr/lib*/clang/*/include/stddef.h') || true
    [ -n "$library" ] && [ -n "$headers" ] || install_package libclang libclang-dev
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

# A PostgreSQL server's programs and psql, for tests that start a server of their own. The service
# that the package would start is kept down.
need_postgres() {
    local policy=/usr/sbin/policy-rc.d made=
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null && ! command -v initdb > /dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' > "$policy"
            chmod 755 "$policy"
            made=yes
        fi
        install_package "a PostgreSQL server" postgresql || { [ -z "$made" ] || rm -f "$policy"; return 1; }
        [ -z "$made" ] || rm -f "$policy"
    fi
    need psql postgresql-client
    # psycopg finds the client library by name.
    ldconfig -p 2> /dev/null | grep -q 'libpq\.so\.5' || install_package libpq libpq5
}

# Node packages of the client tests, and the server of PostgreSQL 18 that one of them holds: made
# once for each state of npm.txt. Prints the folder.
npm_modules() {
    local dir=$target/npm wanted
    need npm npm >&2
    wanted=$(cat tests/clients/npm.txt)
    if [ "$(cat "$dir/.stamp" 2> /dev/null)" != "$wanted" ]; then
        rm -rf "$dir"
        mkdir -p "$dir"
        # shellcheck disable=SC2086
        npm install --prefix "$dir" --no-audit --no-fund --silent $wanted >&2
        printf '%s\n' "$wanted" > "$dir/.stamp"
    fi
    printf '%s\n' "$dir/node_modules"
}

# The Python environment of the client tests: made once for each state of requirements.txt.
# Prints the path of its python.
venv() {
    local dir=$target/venv wanted stamp
    need python3 python3 >&2
    wanted="$(python3 --version) $(sha256sum < tests/clients/requirements.txt)"
    stamp=$dir/.stamp
    if [ "$(cat "$stamp" 2> /dev/null)" != "$wanted" ]; then
        rm -rf "$dir"
        python3 -c 'import ensurepip, venv' 2> /dev/null || need no-such-command python3-venv >&2
        python3 -m venv "$dir" >&2
        "$dir/bin/pip" install --quiet --disable-pip-version-check \
            -r tests/clients/requirements.txt >&2
        printf '%s\n' "$wanted" > "$stamp"
    fi
    printf '%s\n' "$dir/bin/python"
}

# Processes that a script started with `own COMMAND...`; they end with the script, and no others.
own_pids=()
own() {
    "$@" &
    own_pids+=("$!")
}
end_own() {
    local pid
    for pid in "${own_pids[@]:+${own_pids[@]}}"; do
        kill "$pid" 2> /dev/null || true
    done
    for pid in "${own_pids[@]:+${own_pids[@]}}"; do
        wait "$pid" 2> /dev/null || true
    done
}
trap end_own EXIT
