#!/usr/bin/env bash
# Runs every test of the project. Needs Rust, Python, Node with npm and Go; PostgreSQL, ngircd, iproute2 and faketime it installs by
# apt, if it is root.
#
#   ./test.sh           everything
#   ./test.sh quick     what needs no other people's software
#   ./test.sh nightly   everything, of the release build, and what takes hours: 1,000 seeds of the simulation, a room with 10,000
#                       servers, 500 kills, and the other faults as long and as many as in life
set -euo pipefail
cd "$(dirname "$0")"
what=${1:-all}
target=${CARGO_TARGET_DIR:-$PWD/target}

step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

# A package of the distribution.
install() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
}

step 'formatting'
cargo fmt --all --check

step 'lints'
cargo clippy --workspace --all-targets --locked -- -D warnings

step 'PostgreSQL'
if [[ -z ${NUDGE_TEST_POSTGRES_URL:-} ]]; then
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        install postgresql
    fi
    cluster=$(mktemp -d)
    trap 'complement-tests/postgres.sh stop "$cluster"; rm -rf "$cluster"' EXIT
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # The server refuses a database that would lose what it acknowledged.
    NUDGE_TEST_POSTGRES_URL=$(PG_FSYNC=on complement-tests/postgres.sh start "$cluster" "$port")
    export NUDGE_TEST_POSTGRES_URL
fi

step 'unit and integration tests, on SQLite and PostgreSQL; 200 seeds of the simulation; 20 kills on each database'
cargo build --workspace --locked
cargo test --workspace --locked

if [[ $what == nightly ]]; then
    step '1,000 seeds of the simulation'
    cargo run --locked -p complement-tests-simulation -- --seeds 1000
    step 'a room with 10,000 servers, 3,000 of them dead'
    NUDGE_TEST_DESTINATIONS=10000 cargo test --locked -p federation-outbound --test it r_25_
    step 'faults as long and as many as in life: 500 kills on each database, 5,000 slow clients'
    # Each of those clients has an end here; the servers inherit it.
    ulimit -n "$(ulimit -Hn)"
    NUDGE_FAULTS_LONG=1 NUDGE_KILL_ROUNDS=500 cargo test --locked -p complement-tests-faults
fi

if [[ $what != quick ]]; then
    export NUDGE_BINARY=$target/debug/nudge
    if [[ $what == nightly ]]; then
        step 'release build'
        cargo build --release --locked
        NUDGE_BINARY=$target/release/nudge
    fi
    step 'matrix-nio, matrix-js-sdk and matrix-sdk as clients, Synapse as a peer, heisenbridge as a bridge; what leaves a namespace'
    PATH=$PATH:/usr/sbin command -v ngircd >/dev/null || install ngircd
    PATH=$PATH:/usr/sbin command -v ip >/dev/null || install iproute2
    command -v faketime >/dev/null || install faketime
    # Not everywhere can there be network namespaces, or another clock; what else goes wrong is a failure.
    complement-tests/interop/run.sh || { (($? == 3)) && not_run='a part with other software'; }
    step 'Complement: all packages, compared with the baseline'
    command -v go >/dev/null || { echo "Complement needs Go" >&2; exit 2; }
    (cd complement-tests/complement && go vet ./... && go test ./...)
    # Its Go modules are not to be had everywhere; what else goes wrong is a failure.
    complement-tests/complement/run || { (($? == 3)) && not_run="${not_run:+$not_run and }Complement"; }
fi

step "all passed${not_run:+, but $not_run did NOT run}"
