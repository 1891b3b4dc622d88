#!/usr/bin/env bash
# Runs the binary against other people's software: matrix-nio as a client, Synapse as a peer. Everything on loopback.
#
#   run.sh [nio|synapse]...      (default: both)
#
# Needs python3.11 with venv, and openssl. NUDGE_BINARY names the binary; default: the release build of this checkout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export NUDGE_BINARY=${NUDGE_BINARY:-$target/release/nudge}
[[ -x $NUDGE_BINARY ]] || { echo "run.sh: $NUDGE_BINARY is not there; build it first" >&2; exit 2; }

venv=$target/interop-venv
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/installed.txt"
fi

(($#)) || set -- nio synapse
for part; do
    case $part in
        nio) "$venv/bin/python" "$here/client_nio.py" ;;
        synapse) "$venv/bin/python" "$here/federation_synapse.py" ;;
        *) echo "run.sh: unknown part $part" >&2; exit 2 ;;
    esac
done
