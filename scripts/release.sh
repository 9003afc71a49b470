#!/usr/bin/env bash
# The binary to run where CPU counts: built with a profile of itself under load.
#
#   scripts/release.sh      about ten minutes; leaves target/pgo/weirgate
#
# First a build that counts its branches and calls, then the load bench's own rows with it, then the
# build that uses the counts. `cargo build --release` makes the same program, somewhat slower.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
need_build_tools

out=$target/pgo
triple=$(rustc -vV | sed -n 's/^host: //p')
tool=$(rustc --print sysroot)/lib/rustlib/$triple/bin/llvm-profdata
if [ ! -x "$tool" ]; then
    command -v rustup > /dev/null 2>&1 || fail "no llvm-profdata of this compiler: install llvm-tools beside rustc"
    rustup component add llvm-tools
fi
rm -rf "$out/counts"
mkdir -p "$out"

# build FLAGS: the binary, with its dependencies built the same way, apart from all other builds.
build() {
    RUSTFLAGS=$1 cargo build --release --locked --bin weirgate --target "$triple" --target-dir "$out/build"
}

step "a build that counts"
build "-Cprofile-generate=$out/counts"
cp "$out/build/$triple/release/weirgate" "$out/weirgate-counts"
step "what it does under load"
cargo bench --locked --bench load -- --force --seconds 3 --rounds 1 --peers bare,full \
    --only l7-1-plain,l7-64-plain,l7-64-tls,sse-32,handshake,l4 --weirgate "$out/weirgate-counts"
"$tool" merge -o "$out/weirgate.profdata" "$out/counts"
step "the build that uses the counts"
build "-Cprofile-use=$out/weirgate.profdata"
cp "$out/build/$triple/release/weirgate" "$out/weirgate"
"$out/weirgate" --version
echo "$out/weirgate"
