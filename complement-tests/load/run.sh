#!/usr/bin/env bash
# Measures the release build, on SQLite, on PostgreSQL where it is installed, and Synapse beside it in the same run, and
# prints a table. Arguments go to the load generator: see `run.sh --help`. Quiet machines only; three rounds take a while,
# most of it Synapse's.
#
#   LOAD_WITHOUT_SYNAPSE=1   leaves Synapse out
#
# Needs python3.11 with venv for Synapse, and 11,000 open files (`ulimit -Hn`) for `idle-connections`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cargo build --release --locked --manifest-path "$root/Cargo.toml" --target-dir "$target" --bin nudge
cargo build --release --locked --manifest-path "$root/Cargo.toml" --target-dir "$target" --package complement-tests-load
export NUDGE_BINARY=$target/release/nudge
# Each connection that waits is one of its open files.
ulimit -Sn "$(ulimit -Hn)"

if [[ -z ${NUDGE_TEST_POSTGRES_URL:-} ]] && compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    cluster=$(mktemp -d)
    trap '"$root/complement-tests/postgres.sh" stop "$cluster"; rm -rf "$cluster"' EXIT
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    NUDGE_TEST_POSTGRES_URL=$(PG_FSYNC=on "$root/complement-tests/postgres.sh" start "$cluster" "$port")
    export NUDGE_TEST_POSTGRES_URL
fi

if [[ -n ${LOAD_WITHOUT_SYNAPSE:-} ]]; then
    "$target/release/load" "$@"
    exit
fi
venv=$target/interop-venv
requirements=$root/complement-tests/interop/requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
"$venv/bin/python" "$here/beside_synapse.py" "$target/release/load" "$@"
